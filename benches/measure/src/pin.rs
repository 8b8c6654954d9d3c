//! Which cores there are, and how a side is bound to one.
//!
//! Only the calling thread is ever bound. Checks say which core is wrong and
//! which ones could be used, since that is the next thing one wants to know.

use crate::Result;
use std::io;

/// The cores this process may run on, in order.
pub fn allowed_cores() -> Result<Vec<usize>> {
    // SAFETY: cpu_set_t is plain bits; all-zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer and the size describe `set`, which outlives the call.
    let rc = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    if rc != 0 {
        return Err(format!(
            "can't read the allowed cores: {}",
            io::Error::last_os_error()
        )
        .into());
    }
    // SAFETY: `core` stays below CPU_SETSIZE, the number of bits in the set.
    let is_set = |core: &usize| unsafe { libc::CPU_ISSET(*core, &set) };
    Ok((0..libc::CPU_SETSIZE as usize).filter(is_set).collect())
}

/// Refuses a choice of cores that would not measure two sides running at once.
pub fn check_cores(wanted: &[usize], allowed: &[usize]) -> Result<()> {
    if allowed.len() < 2 {
        return Err(format!(
            "this process may use {} core only; a round needs two, one for each side",
            allowed.len()
        )
        .into());
    }
    if wanted.len() < 2 {
        return Err("a round needs two cores, one for each side, as in --cores 0,1".into());
    }
    for (at, core) in wanted.iter().enumerate() {
        if !allowed.contains(core) {
            return Err(format!(
                "core {core} is not available here; there are {}",
                listed(allowed)
            )
            .into());
        }
        if wanted[..at].contains(core) {
            return Err(format!(
                "core {core} is named twice; two sides on one core would take turns, not talk. Choose two of {}",
                listed(allowed)
            )
            .into());
        }
    }
    Ok(())
}

/// Binds the calling thread to `core`.
pub fn bind(core: usize) -> Result<()> {
    // SAFETY: cpu_set_t is plain bits; all-zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if core >= libc::CPU_SETSIZE as usize {
        return Err(format!("core {core} is beyond what the kernel can name").into());
    }
    // SAFETY: `core` is below CPU_SETSIZE, checked above.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the pointer and the size describe `set`, which outlives the call.
    let rc = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) };
    if rc != 0 {
        return Err(format!("can't bind to core {core}: {}", io::Error::last_os_error()).into());
    }
    Ok(())
}

fn listed(cores: &[usize]) -> String {
    cores
        .iter()
        .map(usize::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_core_twice_is_refused_by_name() {
        let said = check_cores(&[1, 1], &[0, 1]).unwrap_err().to_string();
        assert!(said.contains("core 1 is named twice"), "{said}");
    }

    #[test]
    fn an_absent_core_is_refused_and_the_present_ones_are_listed() {
        let said = check_cores(&[0, 7], &[0, 1]).unwrap_err().to_string();
        assert!(said.contains("core 7") && said.contains("0, 1"), "{said}");
    }

    #[test]
    fn a_machine_with_one_core_is_told_so() {
        assert!(
            check_cores(&[0, 1], &[0])
                .unwrap_err()
                .to_string()
                .contains("1 core only")
        );
    }
}
