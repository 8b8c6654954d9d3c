//! Kill torture: a troupe of children at the mercy of a seeded scheduler.
//!
//! Each member is respawned by its own recipe whenever it was killed or has finished. The
//! scheduler draws SIGKILL, SIGSTOP and SIGCONT until it has killed often enough, then
//! continues whoever is stopped. A kill counts only if SIGKILL is what the process died
//! of. A member that ends in any other way than exit code 0 is a fault, at once. The
//! seed is printed; it fixes the draws, not what the kernel makes of them.

use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::seed::{self, Random};
use crate::{Exit, Fault, Launch, Victim};

type Recipe<'a> = Box<dyn FnMut(u64) -> Result<Launch, Fault> + 'a>;

struct Member<'a> {
    name: String,
    recipe: Recipe<'a>,
    victim: Option<Victim>,
    births: u64,
    stopped: bool,
}

/// The children, and what brings each of them back. Dropped, it kills and reaps them all.
///
/// ```no_run
/// # use ringway_harness::{Launch, AckBoard, chaos::{Troupe, Torture}};
/// let (acks, stop) = (AckBoard::new(4).unwrap(), AckBoard::new(1).unwrap());
/// let mut troupe = Troupe::new();
/// for i in 0..4 {
///     let launch = Launch::role("produce").set("i", i).board("acks", &acks).board("stop", &stop);
///     troupe.join(&format!("producer {i}"), move |birth| Ok(launch.clone().set("birth", birth)));
/// }
/// let report = troupe.torture(&Torture::kills(1000), |_| Ok(())).unwrap();
/// stop.set(0, 1); // the roles look at it and end
/// troupe.finish().unwrap();
/// println!("{report}");
/// ```
#[derive(Default)]
pub struct Troupe<'a> {
    members: Vec<Member<'a>>,
}

/// How the scheduler torments.
#[derive(Clone, Debug)]
pub struct Torture {
    /// The seed of all draws.
    pub seed: u64,
    /// Ends after so many kills.
    pub kills: u64,
    /// In 100 draws, so many kills; of the others half are stops and half continues.
    pub kill_percent: u64,
    /// The time between two draws, drawn evenly: how long children get to work. It paces
    /// the torment; nothing is assumed to have happened after it.
    pub pause: Range<Duration>,
    /// At most so many are stopped at the same time; the half of all unless set.
    pub most_stopped: Option<usize>,
}

impl Torture {
    /// Until `kills` kills, with the announced seed of the environment or a fresh one.
    pub fn kills(kills: u64) -> Torture {
        Torture {
            seed: seed::announce("kill torture"),
            kills,
            kill_percent: 40,
            pause: Duration::ZERO..Duration::from_millis(3),
            most_stopped: None,
        }
    }
}

/// What the scheduler did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Processes that died of its SIGKILL.
    pub kills: u64,
    /// Those among them that were stopped when they were killed.
    pub kills_of_stopped: u64,
    /// SIGSTOPs that took.
    pub stops: u64,
    /// SIGCONTs.
    pub continues: u64,
    /// Processes started, the first ones included.
    pub births: u64,
    /// Members that ended by themselves with code 0 and were started again.
    pub finished: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report {
            seed,
            kills,
            kills_of_stopped,
            stops,
            continues,
            births,
            finished,
        } = self;
        write!(
            f,
            "RINGWAY_SEED={seed}: {kills} kills ({kills_of_stopped} of stopped ones), "
        )?;
        write!(
            f,
            "{stops} stops, {continues} continues, {births} births, {finished} finished"
        )
    }
}

impl<'a> Troupe<'a> {
    /// An empty troupe.
    pub fn new() -> Troupe<'a> {
        Troupe::default()
    }

    /// Adds a member. `recipe` gets the number of the birth, from 0; it runs on the thread
    /// that tortures, between death and rebirth, and may look at what the dead one left.
    pub fn join(&mut self, name: &str, recipe: impl FnMut(u64) -> Result<Launch, Fault> + 'a) {
        self.members.push(Member {
            name: name.to_owned(),
            recipe: Box::new(recipe),
            victim: None,
            births: 0,
            stopped: false,
        });
    }

    /// Starts whoever isn't alive, then torments until enough are killed, then brings back
    /// the dead and continues the stopped. `watch` is called after every draw and may end it
    /// all with a fault. Blocks.
    pub fn torture(
        &mut self,
        torture: &Torture,
        mut watch: impl FnMut(&Report) -> Result<(), Fault>,
    ) -> Result<Report, Fault> {
        assert!(!self.members.is_empty(), "a troupe has members");
        let mut random = Random::new(torture.seed);
        let mut report = Report {
            seed: torture.seed,
            ..Report::default()
        };
        let most_stopped = torture.most_stopped.unwrap_or(self.members.len() / 2);
        let mut last_word = Instant::now();
        for member in &mut self.members {
            member.revive(&mut report)?;
        }
        while report.kills < torture.kills {
            self.pause(&torture.pause, &mut random, &mut report)?;
            let stopped = self.members.iter().filter(|m| m.stopped).count();
            let chosen = random.below(self.members.len() as u64) as usize;
            let member = &mut self.members[chosen];
            if random.percent(torture.kill_percent) {
                member.kill(&mut report)?;
                member.revive(&mut report)?;
            } else if member.stopped {
                member.cont(&mut report)?;
            } else if stopped < most_stopped {
                member.stop(&mut report)?;
            }
            watch(&report)?;
            if last_word.elapsed() > Duration::from_secs(3) {
                last_word = Instant::now();
                eprintln!("kill torture: {} of {} kills", report.kills, torture.kills);
            }
        }
        for member in &mut self.members {
            member.cont(&mut report)?;
            member.revive(&mut report)?;
        }
        eprintln!("kill torture, {report}");
        Ok(report)
    }

    /// Waits a drawn time, cut short when a member ends; whoever ended is judged and revived.
    fn pause(
        &mut self,
        pause: &Range<Duration>,
        random: &mut Random,
        report: &mut Report,
    ) -> Result<(), Fault> {
        let span = (pause.end.saturating_sub(pause.start)).as_nanos() as u64;
        let drawn = pause.start + Duration::from_nanos(random.below(span.max(1)));
        std::thread::sleep(drawn);
        for member in &mut self.members {
            member.revive(report)?;
        }
        Ok(())
    }

    /// The living, for a look at them.
    pub fn victims(&self) -> impl Iterator<Item = &Victim> {
        self.members
            .iter()
            .filter_map(|member| member.victim.as_ref())
    }

    /// Blocks until all have ended by themselves with code 0; anything else is a fault.
    pub fn finish(&mut self) -> Result<(), Fault> {
        for member in &mut self.members {
            if let Some(mut victim) = member.victim.take() {
                victim.wait_success()?;
            }
        }
        Ok(())
    }
}

impl Member<'_> {
    /// Starts it unless it is alive; a self-made end other than code 0 is a fault.
    fn revive(&mut self, report: &mut Report) -> Result<(), Fault> {
        if let Some(victim) = &mut self.victim {
            match victim.try_wait()? {
                None => return Ok(()),
                Some(Exit::Code(0)) => report.finished += 1,
                Some(exit) => return Err(self.astray(exit, report)),
            }
        }
        let launch = (self.recipe)(self.births)?.named(&self.name);
        self.victim = Some(launch.spawn()?);
        self.births += 1;
        self.stopped = false;
        report.births += 1;
        Ok(())
    }

    fn kill(&mut self, report: &mut Report) -> Result<(), Fault> {
        let Some(mut victim) = self.victim.take() else {
            return Ok(());
        };
        match victim.kill()? {
            exit if exit.is_kill() => {
                report.kills += 1;
                report.kills_of_stopped += u64::from(self.stopped);
            }
            Exit::Code(0) => report.finished += 1,
            exit => return Err(self.astray(exit, report)),
        }
        Ok(())
    }

    fn stop(&mut self, report: &mut Report) -> Result<(), Fault> {
        if let Some(victim) = &self.victim {
            self.stopped = victim.stop()?;
            report.stops += u64::from(self.stopped);
        }
        Ok(())
    }

    fn cont(&mut self, report: &mut Report) -> Result<(), Fault> {
        if let Some(victim) = &self.victim
            && self.stopped
        {
            victim.cont()?;
            self.stopped = false;
            report.continues += 1;
        }
        Ok(())
    }

    fn astray(&self, exit: Exit, report: &Report) -> Fault {
        Fault::victim(format!(
            "{} (birth {}) ended with {exit}; {report}",
            self.name, self.births
        ))
    }
}

impl fmt::Debug for Troupe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.members.iter().map(|member| &member.name))
            .finish()
    }
}
