//! SVG 1.1. Text is not measured but estimated, generously, for common sans-serif faces.

use super::layout::{Point, Rect, Route, layout};
use super::{Card, Figure, Kind, cut};
use crate::markup::escaped;

/// Around the drawing, and inside cards.
const MARGIN: f64 = 24.0;
const INSIDE: f64 = 12.0;

/// Height of a line of text, and the least width of a card.
const LINE: f64 = 16.0;
const LEAST_WIDTH: f64 = 130.0;

/// Room for the title, and for the legend.
const TITLE: f64 = 36.0;
const LEGEND: f64 = 40.0;

/// A line that leads so little aside is drawn straight; nobody sees that it does not start in the middle of a card.
const STRAIGHT: f64 = 8.0;

/// How much wider bold letters are.
const BOLD: f64 = 1.1;

const FONT: &str = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif";

pub(super) fn render(figure: &Figure) -> String {
    let sizes: Vec<[f64; 2]> = figure.cards.iter().map(size).collect();
    let result = figure.cards.iter().position(|card| card.output).unwrap_or(0);
    let layout = layout(&sizes, &figure.edges, result);
    let legend = legend(figure);
    let head = text_width(&figure.title, 15.0 * BOLD).max(legend.1);
    let width = layout.width.max(head) + 2.0 * MARGIN;
    let height = layout.height + TITLE + LEGEND + 2.0 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"{FONT}\" font-size=\"11.5\">\n"
    );
    svg += &format!(
        "<title>{}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        escaped(&figure.title)
    );
    svg += "<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
            orient=\"auto\"><path d=\"M0,0.8 L7.5,4 L0,7.2 z\" fill=\"#6b7280\"/></marker></defs>\n";
    svg += &text([MARGIN, MARGIN + 15.0], "font-size=\"15\" font-weight=\"bold\" fill=\"#111827\"", &figure.title);
    let left = MARGIN + (width - 2.0 * MARGIN - layout.width) / 2.0;
    svg += &format!("<g transform=\"translate({left:.1} {:.1})\">\n", MARGIN + TITLE);
    svg += "<g fill=\"none\" stroke=\"#6b7280\" stroke-width=\"1.3\" marker-end=\"url(#arrow)\">\n";
    for route in &layout.routes {
        svg += &format!("<path d=\"{}\"/>\n", path(route));
    }
    svg += "</g>\n";
    for (card, rect) in figure.cards.iter().zip(&layout.boxes) {
        svg += &draw(card, *rect);
    }
    svg += "</g>\n";
    let bottom = height - MARGIN - 8.0;
    svg + &format!("<g transform=\"translate({MARGIN} {bottom:.1})\">\n{}</g>\n</svg>\n", legend.0)
}

/// Width and height of a card.
fn size(card: &Card) -> [f64; 2] {
    let lines = card.lines.iter().chain([&card.footer]).map(|line| text_width(line, 11.5));
    let width = lines.fold(text_width(&cut(&card.name), 13.0 * BOLD), f64::max) + 2.0 * INSIDE;
    [width.max(LEAST_WIDTH), LINE * (card.lines.len() as f64 + 2.0) + INSIDE]
}

fn draw(card: &Card, Rect { x, y, width, height }: Rect) -> String {
    let [fill, border] = card.kind.colours();
    let thick = if card.output { 2.5 } else { 1.2 };
    let names = format!("{} ({} nodes)", card.name, card.nodes.len());
    let hover = if card.nodes.len() > 1 { &names } else { &card.name };
    let mut svg = format!("<g class=\"card\" data-layer=\"{}\"><title>{}</title>", escaped(&card.name), escaped(hover));
    svg += &format!(
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"7\" fill=\"{fill}\" \
         stroke=\"{border}\" stroke-width=\"{thick}\"/>\n"
    );
    let left = x + INSIDE;
    let mut line = y + INSIDE / 2.0 + 12.5;
    svg += &text([left, line], "font-size=\"13\" font-weight=\"bold\" fill=\"#111827\"", &cut(&card.name));
    for content in &card.lines {
        line += LINE;
        svg += &text([left, line], "fill=\"#1f2937\"", content);
    }
    svg += &text([left, line + LINE], "fill=\"#6b7280\"", &card.footer);
    svg + "</g>\n"
}

fn text([x, y]: [f64; 2], style: &str, content: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{}</text>\n", escaped(content))
}

fn path(route: &Route) -> String {
    match route {
        Route::Down(points) => {
            let mut at = points[0];
            if (at.x - points[1].x).abs() < STRAIGHT {
                at.x = points[1].x;
            }
            let mut path = format!("M{:.1},{:.1}", at.x, at.y);
            for &Point { x, y } in &points[1..] {
                let x = if (at.x - x).abs() < STRAIGHT { at.x } else { x };
                path += &if at.x == x {
                    format!(" L{x:.1},{y:.1}")
                } else {
                    let middle = (at.y + y) / 2.0;
                    format!(" C{:.1},{middle:.1} {x:.1},{middle:.1} {x:.1},{y:.1}", at.x)
                };
                at = Point { x, y };
            }
            path
        }
        Route::Side { from, lane, to } => {
            let corner = 9.0;
            format!(
                "M{:.1},{:.1} L{:.1},{:.1} Q{lane:.1},{:.1} {lane:.1},{:.1} L{lane:.1},{:.1} Q{lane:.1},{:.1} {:.1},{:.1} L{:.1},{:.1}",
                from.x,
                from.y,
                lane - corner,
                from.y,
                from.y,
                from.y + corner,
                to.y - corner,
                to.y,
                lane - corner,
                to.y,
                to.x,
                to.y
            )
        }
    }
}

/// The kinds that occur, in their colours, and how wide that is.
fn legend(figure: &Figure) -> (String, f64) {
    let (mut svg, mut x) = (String::new(), 0.0);
    for kind in Kind::ALL.into_iter().filter(|kind| figure.cards.iter().any(|card| card.kind == *kind)) {
        let [fill, border] = kind.colours();
        svg += &format!(
            "<rect class=\"legend\" x=\"{x:.1}\" y=\"-10\" width=\"12\" height=\"12\" rx=\"3\" fill=\"{fill}\" stroke=\"{border}\"/>\n"
        );
        svg += &text([x + 18.0, 0.0], "fill=\"#4b5563\"", kind.label());
        x += 18.0 + text_width(kind.label(), 11.5) + 16.0;
    }
    (svg, x)
}

/// Estimated width, by the widest of the faces (DejaVu Sans): wide scripts take a square.
fn text_width(text: &str, size: f64) -> f64 {
    let width = |c: char| match c {
        ' ' | '.' | ',' | ':' | '\'' | '·' | 'i' | 'j' | 'l' | 'f' | 't' | 'r' | 'I' | '-' | '/' | '(' | ')' => 0.42,
        'm' | 'w' | 'M' | 'W' | '@' | '%' | '+' | '=' | '×' | '→' | '←' | '…' => 0.98,
        'A'..='Z' => 0.76,
        c if u32::from(c) < 0x2e80 => 0.64,
        _ => 1.05,
    };
    text.chars().map(width).sum::<f64>() * size
}
