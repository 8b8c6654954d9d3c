//! `loom` words whose every conflict is explored.
//!
//! loom 0.7.3 remembers one access of a word, the last. A load of the storing thread itself hides
//! another thread's earlier load from the store behind it, and loom then never tries the two the
//! other way round: a load followed by a CAS in one thread against one load in another ends after
//! a single execution, in which nothing was ever seen. So each word keeps a mark per thread. A
//! thread that loads the word looks at its own mark, and one that stores touches the marks of all
//! others by a CAS that always fails: the store then meets the load at the mark. A mark is never
//! stored to, so it orders nothing and carries no value. And because loom does not explore at the
//! marks themselves, it branches at the access of the word right before, where it should have.

use super::Ordering;
use core::fmt::Write;

/// Threads of a model, the first one included.
const THREADS: usize = 4;

macro_rules! word {
    ($name:ident, $value:ty) => {
        /// See the module.
        pub struct $name {
            word: loom::sync::atomic::$name,
            marks: [loom::sync::atomic::AtomicU32; THREADS],
        }

        impl $name {
            pub fn new(value: $value) -> Self {
                Self {
                    word: loom::sync::atomic::$name::new(value),
                    marks: core::array::from_fn(|_| loom::sync::atomic::AtomicU32::new(0)),
                }
            }

            pub fn load(&self, ordering: Ordering) -> $value {
                let value = self.word.load(ordering);
                loom::stop_exploring();
                self.marks[thread()].load(Ordering::Relaxed);
                loom::explore();
                value
            }

            pub fn store(&self, value: $value, ordering: Ordering) {
                self.word.store(value, ordering);
                self.touch();
            }

            pub fn swap(&self, value: $value, ordering: Ordering) -> $value {
                let before = self.word.swap(value, ordering);
                self.touch();
                before
            }

            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let result = self.word.compare_exchange(current, new, success, failure);
                self.touch();
                result
            }

            pub fn fetch_add(&self, value: $value, ordering: Ordering) -> $value {
                let before = self.word.fetch_add(value, ordering);
                self.touch();
                before
            }

            pub fn fetch_max(&self, value: $value, ordering: Ordering) -> $value {
                let before = self.word.fetch_max(value, ordering);
                self.touch();
                before
            }

            pub fn fetch_min(&self, value: $value, ordering: Ordering) -> $value {
                let before = self.word.fetch_min(value, ordering);
                self.touch();
                before
            }

            pub fn fetch_or(&self, value: $value, ordering: Ordering) -> $value {
                let before = self.word.fetch_or(value, ordering);
                self.touch();
                before
            }

            fn touch(&self) {
                let me = thread();
                loom::stop_exploring();
                for (_, mark) in self.marks.iter().enumerate().filter(|(thread, _)| *thread != me) {
                    let _ = mark.compare_exchange(1, 2, Ordering::Relaxed, Ordering::Relaxed);
                }
                loom::explore();
            }
        }
    };
}

word!(AtomicU32, u32);
word!(AtomicU64, u64);

/// The number of the running thread; loom shows it in debug output only.
fn thread() -> usize {
    struct Digits(usize);
    impl Write for Digits {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            for digit in text.bytes().filter(u8::is_ascii_digit) {
                self.0 = self.0 * 10 + usize::from(digit - b'0');
            }
            Ok(())
        }
    }
    let mut number = Digits(0);
    let _ = write!(number, "{:?}", loom::thread::current().id());
    number.0
}
