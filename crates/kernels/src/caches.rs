//! Sizes of the machine's caches, by which plans choose how much of a sum they keep at hand. They never change a result's bits.

use std::path::Path;
use std::sync::LazyLock;

/// Bytes of the caches that plans make use of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Caches {
    /// A core's second level.
    pub l2: usize,
    /// The last level, which cores share; the second where there is no other.
    pub l3: usize,
}

impl Caches {
    /// What is assumed where a machine does not say.
    pub const TYPICAL: Caches = Caches { l2: 1 << 20, l3: 32 << 20 };

    /// What Linux says of the first core, asked once.
    ///
    /// ```
    /// use convnet_kernels::caches::Caches;
    /// let Caches { l2, l3 } = Caches::of_this_machine();
    /// assert!(l2 > 0 && l3 > 0);
    /// ```
    pub fn of_this_machine() -> Caches {
        static FOUND: LazyLock<Option<Caches>> =
            LazyLock::new(|| read(Path::new("/sys/devices/system/cpu/cpu0/cache")));
        FOUND.unwrap_or(Caches::TYPICAL)
    }
}

/// The caches that a folder of the kernel's describes: a folder for each, with its level, its type and its size (`2048K`).
fn read(folder: &Path) -> Option<Caches> {
    let mut sizes = [0; 4];
    for index in 0..16 {
        let word = |name: &str| std::fs::read_to_string(folder.join(format!("index{index}")).join(name)).ok();
        let Some(kind) = word("type") else { break };
        let level: usize = word("level")?.trim().parse().ok()?;
        if kind.trim() != "Instruction" {
            *sizes.get_mut(level)? = bytes(word("size")?.trim())?;
        }
    }
    let [_, _, l2, l3] = sizes;
    (l2 > 0).then_some(Caches { l2, l3: l3.max(l2) })
}

fn bytes(size: &str) -> Option<usize> {
    let unit = match size.chars().last()? {
        'K' => 10,
        'M' => 20,
        _ => return size.parse().ok(),
    };
    size[..size.len() - 1].parse::<usize>().ok().filter(|&count| count < 1 << 24).map(|count| count << unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_the_kernel_writes_them() {
        let folder = std::env::temp_dir().join(format!("convnet-caches-{}", std::process::id()));
        let of = |caches: &[[&str; 3]]| {
            let _ = std::fs::remove_dir_all(&folder);
            for (index, words) in caches.iter().enumerate() {
                let one = folder.join(format!("index{index}"));
                std::fs::create_dir_all(&one).unwrap();
                for (name, word) in ["level", "type", "size"].into_iter().zip(words) {
                    std::fs::write(one.join(name), format!("{word}\n")).unwrap();
                }
            }
            let found = read(&folder);
            let _ = std::fs::remove_dir_all(&folder);
            found
        };
        let l1 = [["1", "Data", "32K"], ["1", "Instruction", "32K"]];
        let with = |rest: &[[&str; 3]]| of(&[&l1, rest].concat());
        let all = with(&[["2", "Unified", "512K"], ["3", "Unified", "32M"]]);
        assert_eq!(all, Some(Caches { l2: 512 << 10, l3: 32 << 20 }));
        assert_eq!(with(&[["2", "Unified", "1048576"]]), Some(Caches { l2: 1 << 20, l3: 1 << 20 }));
        for nothing in
            [vec![], vec![["2", "Unified", "0K"]], vec![["2", "Unified", "much"]], vec![["9", "Unified", "1M"]]]
        {
            assert_eq!(with(&nothing), None, "{nothing:?}");
        }
    }
}
