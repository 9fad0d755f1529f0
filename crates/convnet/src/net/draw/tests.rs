use super::*;
use crate::net::samples;
use crate::zoo::{Cnn, cnn};

#[test]
fn dump() {
    let nets = [cnn(&Cnn::default()).unwrap(), samples::residual(3), samples::inception(), samples::dense(4)];
    for net in nets {
        for (depth, name) in [(Depth::Auto, "auto"), (Depth::Parts(2), "2")] {
            std::fs::write(format!("/tmp/draw/{}-{name}.svg", net.name()), net.svg(depth).unwrap()).unwrap();
            std::fs::write(format!("/tmp/draw/{}-{name}.dot", net.name()), net.dot(depth).unwrap()).unwrap();
            println!("{}", net.table(1).render(crate::columns::Style::Plain, &net.blocks(depth)));
        }
    }
}
