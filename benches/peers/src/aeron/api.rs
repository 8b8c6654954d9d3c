//! The part of Aeron's C client (aeronc.h) that is used here, found at run time.
//!
//! Nothing links to Aeron: `libaeron.so` is opened where $RINGWAY_AERON points,
//! or where the dynamic linker finds it, and a missing one is an answer, not a
//! fault. The declarations are those of Aeron 1.4x and 1.5x.

use ringway_measure::Result;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};

/// The environment variable that names the directory of `libaeron.so`.
pub(super) const HOME: &str = "RINGWAY_AERON";

/// Any of Aeron's opaque types.
pub(super) type Handle = *mut c_void;

/// `aeron_fragment_handler_t`.
pub(super) type Handler = unsafe extern "C" fn(*mut c_void, *const u8, usize, *mut c_void);

/// `aeron_buffer_claim_t`.
#[repr(C)]
pub(super) struct BufferClaim {
    pub(super) frame_header: *mut u8,
    pub(super) data: *mut u8,
    pub(super) length: usize,
}

macro_rules! api {
    ($($field:ident: $name:literal ($($arg:ty),*) -> $ret:ty;)*) => {
        /// The functions, valid while the library is open, which is as long as the value.
        pub(super) struct Api {
            $(pub(super) $field: unsafe extern "C" fn($($arg),*) -> $ret,)*
            _library: libloading::Library,
        }

        impl Api {
            fn resolve(library: libloading::Library) -> std::result::Result<Api, libloading::Error> {
                // SAFETY: the types are those that aeronc.h declares for these
                // names; the library is kept open beside the pointers.
                unsafe {
                    Ok(Api { $($field: *library.get($name)?,)* _library: library })
                }
            }
        }
    };
}

api! {
    context_init: b"aeron_context_init\0" (*mut Handle) -> c_int;
    context_set_dir: b"aeron_context_set_dir\0" (Handle, *const c_char) -> c_int;
    context_set_pre_touch: b"aeron_context_set_pre_touch_mapped_memory\0" (Handle, bool) -> c_int;
    context_close: b"aeron_context_close\0" (Handle) -> c_int;
    init: b"aeron_init\0" (*mut Handle, Handle) -> c_int;
    start: b"aeron_start\0" (Handle) -> c_int;
    close: b"aeron_close\0" (Handle) -> c_int;
    errmsg: b"aeron_errmsg\0" () -> *const c_char;
    add_shared: b"aeron_async_add_publication\0" (*mut Handle, Handle, *const c_char, i32) -> c_int;
    add_shared_poll: b"aeron_async_add_publication_poll\0" (*mut Handle, Handle) -> c_int;
    add_exclusive: b"aeron_async_add_exclusive_publication\0" (*mut Handle, Handle, *const c_char, i32) -> c_int;
    add_exclusive_poll: b"aeron_async_add_exclusive_publication_poll\0" (*mut Handle, Handle) -> c_int;
    add_subscription: b"aeron_async_add_subscription\0" (*mut Handle, Handle, *const c_char, i32, Handle, Handle, Handle, Handle) -> c_int;
    add_subscription_poll: b"aeron_async_add_subscription_poll\0" (*mut Handle, Handle) -> c_int;
    shared_is_connected: b"aeron_publication_is_connected\0" (Handle) -> bool;
    exclusive_is_connected: b"aeron_exclusive_publication_is_connected\0" (Handle) -> bool;
    subscription_is_connected: b"aeron_subscription_is_connected\0" (Handle) -> bool;
    shared_offer: b"aeron_publication_offer\0" (Handle, *const u8, usize, Handle, Handle) -> i64;
    exclusive_offer: b"aeron_exclusive_publication_offer\0" (Handle, *const u8, usize, Handle, Handle) -> i64;
    shared_claim: b"aeron_publication_try_claim\0" (Handle, usize, *mut BufferClaim) -> i64;
    exclusive_claim: b"aeron_exclusive_publication_try_claim\0" (Handle, usize, *mut BufferClaim) -> i64;
    commit: b"aeron_buffer_claim_commit\0" (*mut BufferClaim) -> c_int;
    poll: b"aeron_subscription_poll\0" (Handle, Handler, *mut c_void, usize) -> c_int;
    assembler_create: b"aeron_fragment_assembler_create\0" (*mut Handle, Handler, *mut c_void) -> c_int;
    assembler_delete: b"aeron_fragment_assembler_delete\0" (Handle) -> c_int;
    assembler_handler: b"aeron_fragment_assembler_handler\0" (*mut c_void, *const u8, usize, *mut c_void) -> ();
}

impl Api {
    /// Opens the library.
    pub(super) fn open() -> Result<Api> {
        let path = home().map_or_else(
            || PathBuf::from("libaeron.so"),
            |home| home.join("libaeron.so"),
        );
        // SAFETY: Aeron's client has no initialisers beyond those of C libraries.
        let library = unsafe { libloading::Library::new(&path) };
        let library = library.map_err(|_| match home() {
            Some(home) => format!(
                "there is no loadable libaeron.so in {}, which ${HOME} names",
                home.display()
            ),
            None => {
                format!("not installed: no libaeron.so is found; ${HOME} may name its directory")
            }
        })?;
        Api::resolve(library).map_err(|error| {
            format!("this libaeron.so is not the client that is needed: {error}").into()
        })
    }

    /// `Ok` of a call that returns a negative number for a failure.
    pub(super) fn ok(&self, returned: c_int, what: &str) -> Result<c_int> {
        if returned >= 0 {
            Ok(returned)
        } else {
            Err(self.trouble(what))
        }
    }

    /// The last failure of this thread, as Aeron words it.
    pub(super) fn trouble(&self, what: &str) -> ringway_measure::Trouble {
        // SAFETY: takes nothing, and returns a terminated string of this thread.
        let said = unsafe { CStr::from_ptr((self.errmsg)()) };
        format!(
            "Aeron can't {what}: {}",
            said.to_string_lossy().lines().next().unwrap_or_default()
        )
        .into()
    }
}

/// The directory of the library, where one is named.
pub(super) fn home() -> Option<PathBuf> {
    std::env::var_os(HOME)
        .filter(|home| !home.is_empty())
        .map(|home| Path::new(&home).to_owned())
}
