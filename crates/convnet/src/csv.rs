//! CSV by RFC 4180: lines end with CR LF, and a field with a comma, a quote or a line break in it stands between quotes.

/// A text as a field.
pub(crate) fn field(text: &str) -> String {
    match text.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

/// The rows of a text whose fields are apart by `separator`, each with the number of its line, from 1; empty lines are left out. A
/// space separates the last word of a line from all that is before it.
pub(crate) fn rows(text: &str, separator: char) -> impl Iterator<Item = (usize, Vec<String>)> {
    let mut rest = text;
    let mut line = 1;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (start, before) = (line, rest);
            let fields = if separator == ' ' { last_word(&mut rest) } else { row(&mut rest, separator) };
            line += before[..before.len() - rest.len()].matches('\n').count();
            if fields.iter().any(|field| !field.trim().is_empty()) {
                return Some((start, fields));
            }
        }
        None
    })
}

fn last_word(rest: &mut &str) -> Vec<String> {
    let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
    *rest = after;
    let line = line.trim();
    match line.rsplit_once(char::is_whitespace) {
        Some((before, word)) => vec![before.trim_end().to_owned(), word.to_owned()],
        None => vec![line.to_owned()],
    }
}

/// Takes a row off the text. A quoted field may hold separators and line breaks; a quote within it is doubled.
fn row(rest: &mut &str, separator: char) -> Vec<String> {
    let (mut fields, mut field, mut quoted, mut used) = (Vec::new(), String::new(), false, rest.len());
    let mut letters = rest.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' if quoted && letters.next_if(|&(_, next)| next == '"').is_some() => field.push('"'),
            '"' if quoted || field.is_empty() => quoted = !quoted,
            '\n' if !quoted => {
                used = at + 1;
                break;
            }
            letter if letter == separator && !quoted => fields.push(std::mem::take(&mut field)),
            letter => field.push(letter),
        }
    }
    *rest = &rest[used..];
    if field.ends_with('\r') {
        field.pop();
    }
    fields.push(field);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were_written() {
        let fields = ["a b", "a,b", "say \"hi\"", "two\nlines", ""];
        let line: Vec<String> = fields.iter().map(|text| field(text)).collect();
        let text = format!("{0}\r\n\n{0}\nx", line.join(","));
        let found: Vec<_> = rows(&text, ',').collect();
        let fields = fields.map(str::to_owned).to_vec();
        assert_eq!(found, [(1, fields.clone()), (4, fields), (6, vec!["x".to_owned()])]);
        let words: Vec<_> = rows("a b 1\n\n c\t2 \nd", ' ').collect();
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        assert_eq!(words, [(1, owned(&["a b", "1"])), (3, owned(&["c", "2"])), (4, owned(&["d"]))]);
        assert_eq!(rows("\"open,\n", ',').count(), 1);
        assert_eq!(rows("\n \n", ',').count(), 0);
    }

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        for (text, expected) in [
            ("a b", "a b"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("", ""),
        ] {
            assert_eq!(field(text), expected);
        }
    }
}
