//! How much an archive may unpack to in memory. Pictures hardly compress, so an archive that unpacks to many times its size holds
//! something else; and what it unpacks to must leave room for the rest of the machine.

#[cfg(target_os = "linux")]
use std::fs;

use crate::columns::bytes;

/// No archive may unpack to more bytes.
const MOST: u64 = 8 << 30;
/// Nor to more where nobody knows how much memory there is.
const UNKNOWN: u64 = 2 << 30;
/// Nor to more times its own size.
const TIMES: u64 = 32;
/// But to so many bytes, whatever its size: small tars of small files are mostly headers, which compress well.
const ALWAYS: u64 = 256 << 20;

/// What an archive may unpack to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    /// In bytes.
    pub(super) bytes: u64,
    reason: &'static str,
}

impl Bound {
    /// For an archive of so many bytes on this machine.
    pub(super) fn of(packed: u64) -> Bound {
        Bound::with(packed, available())
    }

    /// The same where so many bytes of memory are available, if that is known.
    pub(super) fn with(packed: u64, available: Option<u64>) -> Bound {
        let of_memory = match available.map(|available| available / 2) {
            Some(bytes) if bytes < MOST => Bound { bytes, reason: "half of the memory that is available" },
            Some(_) => Bound { bytes: MOST, reason: "the most that is unpacked into memory" },
            None => Bound { bytes: UNKNOWN, reason: "the most that is unpacked into memory of unknown size" },
        };
        let of_size =
            Bound { bytes: packed.saturating_mul(TIMES).max(ALWAYS), reason: "far more than pictures compress" };
        if of_size.bytes < of_memory.bytes { of_size } else { of_memory }
    }

    /// That an archive unpacks to more.
    pub(super) fn exceeded(&self) -> String {
        let Bound { bytes: most, reason } = *self;
        format!("it unpacks to more than {}, {reason}: unpack it (tar xzf) and name the folder", bytes(most))
    }
}

/// Bytes of memory that the system can give without taking them from others, within the limit of the control group.
#[cfg(target_os = "linux")]
fn available() -> Option<u64> {
    let machine = available_of(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    Some(machine.min(limit.unwrap_or(u64::MAX)))
}

/// Not known here.
#[cfg(not(target_os = "linux"))]
fn available() -> Option<u64> {
    None
}

/// What `/proc/meminfo` says (proc(5)): `MemAvailable:   12345 kB`.
#[cfg(any(target_os = "linux", test))]
fn available_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1 << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_bounded_by_their_size_and_by_memory() {
        let bytes = |packed, available| Bound::with(packed, available).bytes;
        assert_eq!(bytes(1 << 20, Some(64 << 30)), ALWAYS);
        assert_eq!(bytes(13 << 20, Some(64 << 30)), (13 * 32) << 20);
        assert_eq!((bytes(1 << 40, Some(64 << 30)), bytes(1 << 40, Some(6 << 30))), (MOST, 3 << 30));
        assert_eq!((bytes(1 << 40, None), bytes(u64::MAX, Some(0))), (UNKNOWN, 0));
        let message = Bound::with(13 << 20, None).exceeded();
        assert!(
            message.starts_with("it unpacks to more than 416.0 MiB, far more than pictures compress: "),
            "{message}"
        );
    }

    #[test]
    fn the_system_says_what_is_available() {
        assert_eq!(available_of("MemTotal:  9 kB\nMemAvailable:     12 kB\nCached: 7 kB\n"), Some(12 << 10));
        assert_eq!(available_of("MemTotal:  9 kB\nMemAvailable: many kB\n"), None);
        assert_eq!(available_of(""), None);
    }
}
