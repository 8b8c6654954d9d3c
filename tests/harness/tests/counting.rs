//! Counts of system calls, page faults and allocations, against code whose cost is known.

use std::hint::black_box;

use ringway_harness::{Allocations, CountingAllocator, Launch, Stage, step, syscalls};

#[global_allocator]
static COUNTED: CountingAllocator = CountingAllocator;

ringway_harness::roles! {
    arithmetic => arithmetic,
    eight_calls => eight_calls,
    touch_64_pages => touch_64_pages,
}

fn arithmetic(_: &Stage) -> Result<(), String> {
    let work = || (0..10_000u64).fold(0, |a, b| black_box(a ^ b));
    black_box(work());
    step::begin();
    black_box(work());
    step::end();
    Ok(())
}

fn eight_calls(_: &Stage) -> Result<(), String> {
    step::begin();
    for _ in 0..5 {
        // SAFETY: getppid takes nothing.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
    for _ in 0..3 {
        // SAFETY: sched_yield takes nothing.
        unsafe { libc::sched_yield() };
    }
    step::end();
    Ok(())
}

fn touch_64_pages(stage: &Stage) -> Result<(), String> {
    let len = 64 * 4096;
    let (prot, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a new mapping at an address of the kernel's choice.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, -1, 0) };
    // SAFETY: advice on exactly that mapping.
    unsafe { libc::madvise(at, len, libc::MADV_NOHUGEPAGE) };
    let touch = || {
        for page in 0..64 {
            // SAFETY: within the mapping of 64 pages.
            unsafe { at.cast::<u8>().add(page * 4096).write_volatile(1) };
        }
    };
    if stage.get::<bool>("warm") {
        touch();
    }
    step::begin();
    touch();
    step::end();
    Ok(())
}

#[test]
fn pure_arithmetic_costs_no_call_and_no_fault() {
    let cost = syscalls::measure(&Launch::role("arithmetic")).unwrap();
    assert_eq!(
        (cost.total_calls(), cost.minor_faults, cost.major_faults),
        (0, 0, 0),
        "{cost}"
    );
}

#[test]
fn each_system_call_is_counted_under_its_number() {
    let cost = syscalls::measure(&Launch::role("eight_calls")).unwrap();
    assert_eq!(cost.total_calls(), 8, "{cost}");
    assert_eq!(cost.calls_of(libc::SYS_getppid), 5);
    assert_eq!(cost.calls_of(libc::SYS_sched_yield), 3);
    assert!(cost.to_string().contains("3 sched_yield"), "{cost}");
}

#[test]
fn first_touches_are_faults_and_second_ones_are_none() {
    let launch = Launch::role("touch_64_pages");
    let cold = syscalls::measure(&launch.clone().set("warm", false)).unwrap();
    let warm = syscalls::measure(&launch.set("warm", true)).unwrap();
    assert!(cold.minor_faults >= 64, "{cold}");
    assert_eq!(warm.minor_faults, 0, "{warm}");
}

#[test]
fn allocations_of_this_thread_are_counted_and_those_of_others_are_not() {
    let before = Allocations::of_this_thread();
    let boxes: Vec<Box<u64>> = black_box((0..10).map(Box::new).collect());
    drop(boxes);
    let cost = Allocations::of_this_thread() - before;
    assert_eq!(
        (cost.made, cost.released),
        (11, 11),
        "ten boxes and their vector"
    );

    let (mine, all) = (Allocations::of_this_thread(), Allocations::of_the_process());
    std::thread::scope(|scope| {
        scope.spawn(|| (0..1000).for_each(|n| drop(black_box(Box::new(n)))));
    });
    assert!((Allocations::of_this_thread() - mine).made < 1000);
    assert!((Allocations::of_the_process() - all).made >= 1000);
}
