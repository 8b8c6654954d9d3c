//! How many shards a worker of a group is to have: every worker that lives has as many as any other, or one
//! more.
//!
//! Each works it out for itself from the leases as they stand, so for a moment two may come to different
//! ends; the next pass mends that. Who is to give one up is decided by number, so that two do not do it for
//! one that lacks one.

use crate::layout::stream::MEMBERS;

/// What a worker may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// It takes what is free up to here.
    pub take: usize,
    /// It gives up what it has beyond.
    pub keep: usize,
}

/// A worker of the group, as another sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Colleague {
    /// Shards it has.
    pub count: usize,
    /// Whether it was seen just now: for one that does not look nothing is left over.
    pub looks: bool,
}

/// Of worker `me`, who is one of `workers`, those that live. `readable`: shards that can be read, of which
/// `free` are nobody's.
pub(super) fn share(
    workers: &[Option<Colleague>; MEMBERS],
    me: usize,
    readable: usize,
    free: usize,
) -> Share {
    let count = workers.iter().flatten().count().max(1);
    let (least, most) = (readable / count, readable.div_ceil(count));
    let who_looks = workers.iter().flatten().filter(|worker| worker.looks);
    let lacking: usize = who_looks
        .map(|worker| least.saturating_sub(worker.count))
        .sum();
    let has_more = |worker: &&Colleague| worker.count > least;
    let mine = workers[me].is_some_and(|me| has_more(&&me));
    let before_me = workers[..me].iter().flatten().filter(has_more).count();
    let gives = mine && before_me < lacking.saturating_sub(free);
    Share {
        take: if lacking > 0 { least } else { most },
        keep: if gives { least } else { most },
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn workers(counts: &[usize]) -> [Option<Colleague>; MEMBERS] {
        let mut workers = [None; MEMBERS];
        for (worker, count) in workers.iter_mut().zip(counts) {
            let (count, looks) = (*count, true);
            *worker = Some(Colleague { count, looks });
        }
        workers
    }

    #[test]
    fn from_any_beginning_all_come_to_the_same_number_or_one_more() {
        let beginnings: [&[usize]; 6] = [
            &[7],
            &[5, 0],
            &[2, 2, 1, 0],
            &[0, 0, 9],
            &[3, 3, 3],
            &[1, 0, 0],
        ];
        for beginning in beginnings {
            let mut shares = beginning.to_vec();
            let readable: usize = shares.iter().sum();
            let mut free = 0;
            // More rounds than there are shards: then it never rests.
            for _ in 0..=readable {
                for me in 0..shares.len() {
                    let may = share(&workers(&shares), me, readable, free);
                    let takes = may.take.saturating_sub(shares[me]).min(free);
                    (shares[me], free) = (shares[me] + takes, free - takes);
                    let gives = shares[me].saturating_sub(may.keep);
                    (shares[me], free) = (shares[me] - gives, free + gives);
                }
            }
            let (least, most) = (shares.iter().min(), shares.iter().max());
            assert!(
                most.unwrap() - least.unwrap() <= 1,
                "{beginning:?} ended as {shares:?}"
            );
            assert_eq!((free, shares.iter().sum()), (0, readable), "{beginning:?}");
        }
    }

    #[test]
    fn nobody_gives_up_what_nobody_lacks() {
        for me in 0..3 {
            let may = share(&workers(&[2, 2, 1]), me, 5, 0);
            assert_eq!(may, Share { take: 2, keep: 2 });
        }
    }

    #[test]
    fn nothing_is_left_over_for_one_that_does_not_look() {
        let mut stopped = workers(&[2, 2, 0]);
        assert_eq!(share(&stopped, 0, 5, 1), Share { take: 1, keep: 2 });
        stopped[2] = stopped[2].map(|worker| Colleague {
            looks: false,
            ..worker
        });
        assert_eq!(share(&stopped, 0, 5, 1), Share { take: 2, keep: 2 });
        assert_eq!(share(&stopped, 0, 5, 0), Share { take: 2, keep: 2 });
    }
}
