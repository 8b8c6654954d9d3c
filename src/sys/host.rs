//! Who and where we are: boot id, pid namespace, start time.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

/// The kernel's boot id: differs after each boot.
pub fn boot_id() -> io::Result<[u8; 16]> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: Vec<u8> = text
        .bytes()
        .filter_map(|b| char::from(b).to_digit(16))
        .map(|d| d as u8)
        .collect();
    if digits.len() != 32 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "unreadable boot id",
        ));
    }
    Ok(core::array::from_fn(|i| {
        digits[2 * i] << 4 | digits[2 * i + 1]
    }))
}

/// Inode of this process's pid namespace, 0 where /proc does not tell.
pub fn pid_namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid")
        .map(|meta| meta.ino())
        .unwrap_or(0)
}

/// Start time of this process in clock ticks since boot (field 22 of /proc/self/stat), 0 where
/// /proc does not tell.
pub fn start_time() -> u64 {
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else {
        return 0;
    };
    // The second field is the command in parentheses and may hold spaces and parentheses.
    let Some((_, rest)) = stat.rsplit_once(')') else {
        return 0;
    };
    rest.split_whitespace()
        .nth(19)
        .and_then(|field| field.parse().ok())
        .unwrap_or(0)
}

/// Whether this process is the superuser's.
pub fn is_superuser() -> bool {
    rustix::process::geteuid().is_root()
}

/// Sixty-four bits nobody else has.
pub fn random_u64() -> u64 {
    let mut bytes = [0u8; 8];
    match rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => u64::from_ne_bytes(bytes),
        // Before the pool is ready or under a filter: time and pid still tell files apart.
        _ => super::clock::now() ^ u64::from(std::process::id()) << 32,
    }
}
