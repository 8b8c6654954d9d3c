//! The two markers around a stretch, and how the tracer recognises them.
//!
//! A marker is a breakpoint instruction with a signature beside it: on x86-64 a no-op
//! whose operand spells it, before `int3` for begin (so it isn't in the stretch) and
//! behind it for end (so it is never reached within). On aarch64 the operand of `brk`.
//! Registers, flags and memory are left alone. Untraced, a role passes them by.

use std::arch::asm;
use std::io;

use crate::ptrace;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    Begin,
    End,
}

/// Starts the stretch. Only in a role (elsewhere it is a SIGTRAP); costs no instruction of it.
#[inline(always)]
pub fn begin() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a no-op and a breakpoint, whose trap the tracer or pass_markers_untraced takes.
    unsafe {
        asm!(
            ".byte 0x0f, 0x1f, 0x80",
            ".ascii \"RWb>\"",
            "int3",
            options(nostack, preserves_flags)
        )
    };
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a breakpoint, whose trap the tracer or pass_markers_untraced takes.
    unsafe {
        asm!("brk #0x5262", options(nostack, preserves_flags))
    };
}

/// Ends the stretch. Only in a role (elsewhere it is a SIGTRAP); costs no instruction of it.
#[inline(always)]
pub fn end() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a breakpoint, whose trap the tracer or pass_markers_untraced takes, and a no-op.
    unsafe {
        asm!(
            "int3",
            ".byte 0x0f, 0x1f, 0x80",
            ".ascii \"RWe<\"",
            options(nostack, preserves_flags)
        )
    };
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a breakpoint, whose trap the tracer or pass_markers_untraced takes.
    unsafe {
        asm!("brk #0x5265", options(nostack, preserves_flags))
    };
}

/// Which marker the tracee has just executed.
pub(super) fn at(pid: i32) -> io::Result<Option<Marker>> {
    let pc = ptrace::program_counter(pid)?;
    // A neighbour that can't be read belongs to no marker.
    let bytes = |at| ptrace::peek(pid, at).unwrap_or(0).to_le_bytes();
    if cfg!(target_arch = "x86_64") {
        if &bytes(pc - 8) == b"\x0f\x1f\x80RWb>\xcc" {
            return Ok(Some(Marker::Begin));
        }
        return Ok((&bytes(pc)[..7] == b"\x0f\x1f\x80RWe<").then_some(Marker::End));
    }
    let brk = |operand: u32| (0xD420_0000 | operand << 5).to_le_bytes();
    let here = bytes(pc);
    Ok(match &here[..4] {
        code if *code == brk(0x5262) => Some(Marker::Begin),
        code if *code == brk(0x5265) => Some(Marker::End),
        _ => None,
    })
}

/// What to add to the program counter to go on behind a marker.
pub(super) fn resume_offset() -> u64 {
    if cfg!(target_arch = "aarch64") { 4 } else { 0 }
}

/// Makes the markers harmless in a child that nobody traces.
pub(crate) fn pass_markers_untraced() {
    extern "C" fn pass(_: i32, _: *mut libc::siginfo_t, _context: *mut libc::c_void) {
        #[cfg(target_arch = "aarch64")]
        // SAFETY: with SA_SIGINFO the third argument is this thread's ucontext_t.
        unsafe {
            (*_context.cast::<libc::ucontext_t>()).uc_mcontext.pc += 4;
        }
    }
    let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = pass;
    // SAFETY: sigaction is plain data for which all zeroes is a value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: the handler touches nothing but its own context.
    unsafe { libc::sigaction(libc::SIGTRAP, &action, std::ptr::null_mut()) };
}
