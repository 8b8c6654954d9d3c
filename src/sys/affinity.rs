//! Pinning the calling thread to one core. Affects the calling thread only; children inherit it.

use std::io;

/// Cores this process may run on, ascending.
pub fn cores() -> Vec<usize> {
    let mut ids: Vec<usize> = core_affinity::get_core_ids()
        .unwrap_or_default()
        .into_iter()
        .map(|core| core.id)
        .collect();
    ids.sort_unstable();
    ids
}

/// Pins the calling thread to `core`.
///
/// # Errors
/// `InvalidInput` when this process may not run there; the message lists the cores it may use.
pub fn pin_current_thread(core: usize) -> io::Result<()> {
    let allowed = cores();
    if allowed.contains(&core) && core_affinity::set_for_current(core_affinity::CoreId { id: core })
    {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("core {core} is not available to this process; available: {allowed:?}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_is_not_there_is_refused_with_the_list() {
        let error = pin_current_thread(99_999).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("available: ["), "{error}");
    }

    #[test]
    fn a_pinned_thread_runs_on_its_core() {
        std::thread::spawn(|| {
            let core = *cores().last().expect("some core");
            pin_current_thread(core).unwrap();
            assert_eq!(rustix::thread::sched_getcpu(), core);
        })
        .join()
        .unwrap();
    }
}
