//! The ptrace calls of the stepper, and what a stop means.
//!
//! All calls must come from the thread that traces (the kernel ties a tracee to a thread).
//! A stop is told apart by wait status and siginfo, never by guessing from the last
//! request. x86-64 and aarch64 differ only in this file: the breakpoint's siginfo, where
//! the program counter stands after it, and the register names.

use std::io;

use crate::{Exit, os};

pub(crate) const OPTIONS: libc::c_int = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD;

/// Why a tracee stopped, or that it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// One instruction (or one system call) was executed.
    Step,
    /// A breakpoint instruction was executed.
    Breakpoint,
    /// A signal handler was entered; none of its instructions was executed.
    HandlerEntry,
    /// This signal is about to be delivered: hand it on with the next request.
    Signal(i32),
    /// Stopped as by SIGSTOP, as a group.
    Group,
    /// One of the PTRACE_EVENT stops.
    Event(i32),
    /// At the entry or exit of a system call (after `SYSCALL` requests only).
    Syscall,
    /// Gone, and reaped if it was our child.
    Ended(Exit),
}

/// A request whose answer is only success.
pub(crate) fn request(request: u32, pid: i32, data: usize) -> io::Result<()> {
    // SAFETY: used only for requests whose data is an integer; addr is ignored by them.
    os::check(unsafe { libc::syscall(libc::SYS_ptrace, request, pid, 0usize, data) }).map(drop)
}

/// Blocks until `pid` stops or ends.
pub(crate) fn wait(pid: i32) -> io::Result<Stop> {
    let mut status = 0;
    loop {
        // SAFETY: status is valid for the kernel to fill.
        match os::check(unsafe { libc::waitpid(pid, &mut status, libc::__WALL) }.into()) {
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    if libc::WIFEXITED(status) {
        return Ok(Stop::Ended(Exit::Code(libc::WEXITSTATUS(status))));
    }
    if libc::WIFSIGNALED(status) {
        let (signal, dumped) = (libc::WTERMSIG(status), libc::WCOREDUMP(status));
        return Ok(Stop::Ended(Exit::Signal { signal, dumped }));
    }
    let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
    if event != 0 {
        return Ok(Stop::Event(event));
    }
    if signal == libc::SIGTRAP | 0x80 {
        return Ok(Stop::Syscall);
    }
    // SAFETY: siginfo_t is plain data for which all zeroes is a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: PTRACE_GETSIGINFO fills one siginfo_t at data.
    let asked = os::check(unsafe {
        libc::syscall(
            libc::SYS_ptrace,
            libc::PTRACE_GETSIGINFO,
            pid,
            0usize,
            &mut info,
        )
    });
    Ok(match asked {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Stop::Group,
        // Killed between the stop and the question: the next wait tells.
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return wait(pid),
        Err(e) => return Err(e),
        Ok(_) if signal == libc::SIGTRAP => trap(info.si_code),
        Ok(_) => Stop::Signal(signal),
    })
}

/// What a SIGTRAP stands for. x86-64: a breakpoint is SI_KERNEL, a step TRAP_TRACE, a step
/// over a system call TRAP_BRKPT. aarch64: a breakpoint is TRAP_BRKPT, a step TRAP_TRACE.
fn trap(code: i32) -> Stop {
    const SI_KERNEL: i32 = 0x80;
    const TRAP_BRKPT: i32 = 1;
    const TRAP_TRACE: i32 = 2;
    match code {
        SI_KERNEL if cfg!(target_arch = "x86_64") => Stop::Breakpoint,
        TRAP_BRKPT if cfg!(target_arch = "aarch64") => Stop::Breakpoint,
        TRAP_BRKPT | TRAP_TRACE => Stop::Step,
        libc::SIGTRAP => Stop::HandlerEntry,
        _ => Stop::Signal(libc::SIGTRAP),
    }
}

type Registers = libc::user_regs_struct;

/// All general registers of a stopped tracee.
pub(crate) fn registers(pid: i32) -> io::Result<Registers> {
    // SAFETY: user_regs_struct is plain data for which all zeroes is a value.
    let mut registers: Registers = unsafe { std::mem::zeroed() };
    register_set(libc::PTRACE_GETREGSET, pid, &mut registers)?;
    Ok(registers)
}

fn register_set(request: libc::c_uint, pid: i32, registers: &mut Registers) -> io::Result<()> {
    let iov_len = size_of::<Registers>();
    let mut part = libc::iovec {
        iov_base: (&raw mut *registers).cast(),
        iov_len,
    };
    const NT_PRSTATUS: usize = 1;
    // SAFETY: the iovec spans exactly the register struct, alive for the whole call.
    let done = unsafe { libc::syscall(libc::SYS_ptrace, request, pid, NT_PRSTATUS, &mut part) };
    os::check(done).map(drop)
}

/// The program counter.
pub(crate) fn program_counter(pid: i32) -> io::Result<u64> {
    let registers = registers(pid)?;
    #[cfg(target_arch = "x86_64")]
    return Ok(registers.rip);
    #[cfg(target_arch = "aarch64")]
    return Ok(registers.pc);
}

/// Moves the program counter.
pub(crate) fn set_program_counter(pid: i32, to: u64) -> io::Result<()> {
    let mut registers = registers(pid)?;
    #[cfg(target_arch = "x86_64")]
    {
        registers.rip = to;
    }
    #[cfg(target_arch = "aarch64")]
    {
        registers.pc = to;
    }
    register_set(libc::PTRACE_SETREGSET, pid, &mut registers)
}

/// The number of the system call at whose entry the tracee stands.
pub(crate) fn syscall_number(pid: i32) -> io::Result<i64> {
    let registers = registers(pid)?;
    #[cfg(target_arch = "x86_64")]
    return Ok(registers.orig_rax as i64);
    #[cfg(target_arch = "aarch64")]
    return Ok(registers.regs[8] as i64);
}

/// At the entry of a system call: it is not made.
pub(crate) fn skip_call(pid: i32) -> io::Result<()> {
    #[cfg(target_arch = "x86_64")]
    {
        let mut registers = registers(pid)?;
        registers.orig_rax = u64::MAX;
        register_set(libc::PTRACE_SETREGSET, pid, &mut registers)?;
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = pid;
    Ok(())
}

/// At the exit of a system call: what it answers.
pub(crate) fn answer(pid: i32) -> io::Result<i64> {
    let registers = registers(pid)?;
    #[cfg(target_arch = "x86_64")]
    return Ok(registers.rax as i64);
    #[cfg(target_arch = "aarch64")]
    return Ok(registers.regs[0] as i64);
}

/// At the exit of a system call: it answers this instead.
pub(crate) fn set_answer(pid: i32, answer: i64) -> io::Result<()> {
    let mut registers = registers(pid)?;
    #[cfg(target_arch = "x86_64")]
    {
        registers.rax = answer as u64;
    }
    #[cfg(target_arch = "aarch64")]
    {
        registers.regs[0] = answer as u64;
    }
    register_set(libc::PTRACE_SETREGSET, pid, &mut registers)
}

/// One word of the tracee's memory.
pub(crate) fn peek(pid: i32, at: u64) -> io::Result<u64> {
    let mut word = 0u64;
    // SAFETY: the raw PTRACE_PEEKDATA stores one word at data.
    os::check(unsafe {
        libc::syscall(libc::SYS_ptrace, libc::PTRACE_PEEKDATA, pid, at, &mut word)
    })?;
    Ok(word)
}

/// Overwrites one word of the tracee's memory; text pages become private to it.
pub(crate) fn poke(pid: i32, at: u64, word: u64) -> io::Result<()> {
    // SAFETY: PTRACE_POKEDATA writes to the tracee only; addr and data are integers here.
    os::check(unsafe { libc::syscall(libc::SYS_ptrace, libc::PTRACE_POKEDATA, pid, at, word) })
        .map(drop)
}

/// `word` with its first bytes replaced by a breakpoint instruction.
pub(crate) fn with_breakpoint(word: u64) -> u64 {
    if cfg!(target_arch = "x86_64") {
        word & !0xFF | 0xCC
    } else {
        word & !0xFFFF_FFFF | 0xD420_0000
    }
}

/// Whether `word` begins with the instruction that enters the kernel.
pub(crate) fn is_system_call(word: u64) -> bool {
    if cfg!(target_arch = "x86_64") {
        word & 0xFFFF == 0x050F
    } else {
        word & 0xFFFF_FFFF == 0xD400_0001
    }
}

/// How far the program counter stands behind a breakpoint that was executed.
pub(crate) const PAST_BREAKPOINT: u64 = if cfg!(target_arch = "x86_64") { 1 } else { 0 };

/// The message of the last event stop: for a fork, the child's pid.
pub(crate) fn event_message(pid: i32) -> io::Result<u64> {
    let mut message = 0u64;
    // SAFETY: PTRACE_GETEVENTMSG stores one word at data.
    os::check(unsafe {
        libc::syscall(
            libc::SYS_ptrace,
            libc::PTRACE_GETEVENTMSG,
            pid,
            0usize,
            &mut message,
        )
    })?;
    Ok(message)
}
