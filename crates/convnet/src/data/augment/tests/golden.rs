//! Against torchvision on Pillow's pictures: `tests/golden/augment.py`.

use sha2::{Digest, Sha256};

use super::*;
use crate::data::Interpolation;
use crate::data::augment::policy::{Look, Operation, Space};
use crate::data::augment::warp::perspective_map;

type Corners = [[f64; 2]; 4];

#[derive(Deserialize)]
struct Golden {
    functions: Vec<Function>,
    spaces: Vec<Table>,
    operations: Vec<Applied>,
    crops: Vec<String>,
    perspectives: Vec<(Corners, Corners, [f64; 8])>,
    mixtures: Vec<Mixture>,
}

#[derive(Deserialize)]
struct Function {
    shape: [usize; 3],
    smooth: bool,
    step: Step,
    size: [usize; 2],
    expected: String,
}

#[derive(Deserialize)]
struct Table {
    name: String,
    bins: usize,
    size: [usize; 2],
    rows: Vec<(Operation, bool, Vec<f64>)>,
}

#[derive(Deserialize)]
struct Applied {
    operation: Operation,
    magnitude: f64,
    expected: String,
}

#[derive(Deserialize)]
struct Mixture {
    mix: String,
    lambda: f64,
    #[serde(default)]
    center: [usize; 2],
    images: Vec<f32>,
    targets: Vec<f32>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../../tests/golden/pillow/augment.json")).unwrap()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Of long pictures, the hash stands for them.
fn digest(planes: &[u8], expected: &str) -> String {
    match expected.len() == 64 && planes.len() > 32 {
        true => hexadecimal(&Sha256::digest(planes)),
        false => hexadecimal(planes),
    }
}

#[test]
fn functions_give_torchvisions_bytes() {
    let golden = golden();
    assert!(golden.functions.len() > 200);
    let mut failures = Vec::new();
    for Function { shape, smooth, step, size, expected } in golden.functions {
        let planes = done(vec![step.clone()], &picture(shape, smooth), shape, size);
        if digest(&planes, &expected) != expected {
            failures.push(format!("{shape:?} smooth {smooth} {step:?}"));
        }
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn tables_are_torchvisions() {
    for Table { name, bins, size, rows } in golden().spaces {
        let space = match name.as_str() {
            "rand_augment" => Space::rand_augment(size, bins),
            "trivial_augment_wide" => Space::trivial_augment_wide(bins),
            _ => Space::aug_mix(size),
        };
        let order: Vec<Operation> = rows.iter().map(|(operation, ..)| *operation).collect();
        assert_eq!(order, if name == "aug_mix" { &Operation::MIXED[..] } else { &Operation::ALL[..] });
        for (operation, signed, magnitudes) in rows {
            assert_eq!(operation.is_signed(), signed, "{name} {operation:?}");
            for (bin, expected) in magnitudes.into_iter().enumerate() {
                assert_eq!(space.magnitude(operation, bin), expected, "{name} {operation:?} {bin}");
            }
        }
    }
}

#[test]
fn operations_are_torchvisions() {
    let golden = golden();
    assert_eq!(golden.operations.len(), 16);
    for Applied { operation, magnitude, expected } in golden.operations {
        let shape = [3, 13, 17];
        let step = operation.step(magnitude, Look { interpolation: Interpolation::Nearest, fill: Fill::default() });
        let planes = done(step.into_iter().collect(), &picture(shape, true), shape, [13, 17]);
        assert_eq!(hexadecimal(&planes), expected, "{operation:?} {magnitude}");
    }
}

#[test]
fn ten_crops_see_what_torchvisions_see() {
    let planes: Vec<u8> = (0..14 * 11).collect();
    let mut out = [0; 40];
    for (crop, expected) in ten_crop([14, 11], [5, 8]).unwrap().into_iter().zip(golden().crops) {
        crop.cut(&planes, [1, 14, 11], &mut out);
        assert_eq!(hexadecimal(&out), expected, "{crop:?}");
    }
}

#[test]
fn perspectives_are_torchvisions() {
    for (start, end, expected) in golden().perspectives {
        let map = perspective_map(start, end).unwrap();
        for (x, expected) in map.into_iter().zip(expected) {
            assert!((x - expected).abs() <= 1e-6 * expected.abs().max(1e-3), "{x} instead of {expected}");
        }
    }
    assert_eq!(perspective_map([[0.0; 2]; 4], [[1.0; 2]; 4]), None);
}

#[test]
fn mixtures_are_torchvisions() {
    let images: Vec<f32> = (0..144).map(|i| libm::sinf(i as f32)).collect();
    let golden = golden();
    assert_eq!(golden.mixtures.len(), 6);
    for Mixture { mix, lambda, center, images: expected, targets: shares } in golden.mixtures {
        let mix = match mix.as_str() {
            "mixup" => Mix::Mixup { lambda },
            _ => Mix::cut([4, 6], lambda, center),
        };
        let (mut mixed, mut targets) = (images.clone(), vec![9.0; 12]);
        mix.apply(&mut mixed, [3, 2, 4, 6], &[2, 0, 3], 4, &mut targets, &mut Vec::new()).unwrap();
        for (found, expected) in [(mixed, expected), (targets, shares)] {
            assert_eq!(found.len(), expected.len());
            for (x, y) in found.into_iter().zip(expected) {
                assert!((x - y).abs() <= 1e-6, "{mix:?}: {x} instead of {y}");
            }
        }
    }
}
