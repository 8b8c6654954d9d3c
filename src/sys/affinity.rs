//! Pinning the calling thread to one core. Affects the calling thread only; children inherit it.

use std::io;

/// Cores the calling thread may run on now, ascending. A pinned thread sees its own only.
pub fn cores() -> Vec<usize> {
    let mut ids: Vec<usize> = core_affinity::get_core_ids()
        .unwrap_or_default()
        .into_iter()
        .map(|core| core.id)
        .collect();
    ids.sort_unstable();
    ids
}

/// Pins the calling thread to `core`. A thread that is pinned already may move on: the kernel
/// decides by the process's cpuset, not by the present mask.
///
/// # Errors
/// `InvalidInput` when this process may not run there; the message lists the cores it may use.
pub fn pin_current_thread(core: usize) -> io::Result<()> {
    // 1,024 is the size of the kernel's cpu_set_t.
    if core < 1024 && core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!(
            "core {core} is not available to this process; available: {:?}",
            cores()
        ),
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
    fn a_pinned_thread_runs_on_its_core_and_may_move_to_another() {
        std::thread::spawn(|| {
            for core in cores() {
                pin_current_thread(core).unwrap();
                assert_eq!(rustix::thread::sched_getcpu(), core);
                assert_eq!(cores(), [core]);
            }
        })
        .join()
        .unwrap();
    }
}
