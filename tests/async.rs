//! Receiving in tasks, by two executors that know nothing of ringway; a queue's descriptor in a
//! reactor; one wait for channels and queues.

use ringway::{
    AsyncReceiver, Bus, Idle, Incoming, Queue, QueueReceiver, ReceiveError, WaitError, Waitable,
    wait_any,
};
use ringway_harness::{TempBus, await_condition};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// Longer than any pause of the machine.
const MINUTE: Duration = Duration::from_secs(60);

fn bus() -> (TempBus, Bus) {
    let root = TempBus::new().expect("a root under /dev/shm");
    let bus = Bus::builder("test")
        .root(root.path())
        .pool_bytes(8 << 20)
        .create()
        .unwrap();
    (root, bus)
}

fn queue(bus: &Bus, name: &str) -> Queue {
    bus.queue(name).slots(1024).stride(64).create().unwrap()
}

fn in_task(queue: &Queue) -> AsyncReceiver {
    queue.receiver().unwrap().into_async().unwrap()
}

/// Counts how often it is woken.
#[derive(Default)]
struct Alarm(AtomicUsize);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn a_task_that_waits_is_woken_by_a_message() {
    let (_root, bus) = bus();
    let queue = queue(&bus, "q");
    let mut receiver = in_task(&queue);
    let mut incoming = Incoming::new();
    let alarm = Arc::new(Alarm::default());
    let waker = Waker::from(Arc::clone(&alarm));
    let mut context = Context::from_waker(&waker);
    for number in 0..100u64 {
        assert!(
            receiver
                .poll_receive(&mut context, &mut incoming)
                .is_pending()
        );
        let woken = alarm.0.load(SeqCst);
        queue.sender().unwrap().send(&number.to_le_bytes()).unwrap();
        await_condition("the wake", || alarm.0.load(SeqCst) > woken).unwrap();
        let received = receiver.poll_receive(&mut context, &mut incoming);
        let Poll::Ready(Ok(received)) = received else {
            panic!("{received:?}");
        };
        assert_eq!(incoming.body(), number.to_le_bytes());
        assert!(receiver.get_mut().delete(&received.receipt).unwrap());
    }
}

/// Sends back what comes, so that each side sleeps again and again while the other sends.
async fn echo(receiver: &mut AsyncReceiver, to: &Queue, rounds: u64) {
    let mut sender = to.sender().unwrap();
    let mut incoming = Incoming::new();
    for number in 0..rounds {
        let received = receiver.receive(&mut incoming).await.unwrap();
        assert_eq!(incoming.body(), number.to_le_bytes());
        sender.send(incoming.body()).unwrap();
        receiver.get_mut().delete(&received.receipt).unwrap();
    }
}

async fn ask(receiver: &mut AsyncReceiver, to: &Queue, rounds: u64) {
    let mut sender = to.sender().unwrap();
    let mut incoming = Incoming::new();
    for number in 0..rounds {
        sender.send(&number.to_le_bytes()).unwrap();
        let received = receiver.receive(&mut incoming).await.unwrap();
        assert_eq!(incoming.body(), number.to_le_bytes());
        receiver.get_mut().delete(&received.receipt).unwrap();
    }
}

#[test]
fn no_wake_is_lost_between_two_threads_that_answer_each_other() {
    let (_root, bus) = bus();
    let (there, back) = (queue(&bus, "there"), queue(&bus, "back"));
    let (mut at_there, mut at_back) = (in_task(&there), in_task(&back));
    std::thread::scope(|scope| {
        scope.spawn(|| pollster::block_on(echo(&mut at_there, &back, 1000)));
        pollster::block_on(ask(&mut at_back, &there, 1000));
    });
    assert_eq!((there.stats().visible, back.stats().visible), (0, 0));
}

#[test]
fn no_wake_is_lost_between_two_tasks_of_one_thread() {
    let (_root, bus) = bus();
    let (there, back) = (queue(&bus, "there"), queue(&bus, "back"));
    let (mut at_there, mut at_back) = (in_task(&there), in_task(&back));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut echo = pin!(echo(&mut at_there, &back, 1000));
        let mut ask = pin!(ask(&mut at_back, &there, 1000));
        let mut is_echoed = false;
        std::future::poll_fn(|context| {
            is_echoed = is_echoed || echo.as_mut().poll(context).is_ready();
            ask.as_mut().poll(context)
        })
        .await;
    });
}

#[test]
fn a_receive_that_is_given_up_takes_no_message_with_it() {
    let (_root, bus) = bus();
    let queue = queue(&bus, "q");
    let mut receiver = in_task(&queue);
    let mut incoming = Incoming::new();
    {
        let mut receive = pin!(receiver.receive(&mut incoming));
        let mut context = Context::from_waker(Waker::noop());
        assert!(receive.as_mut().poll(&mut context).is_pending());
        queue.sender().unwrap().send(b"kept").unwrap();
    }
    let received = pollster::block_on(receiver.receive(&mut incoming)).unwrap();
    assert_eq!((incoming.body(), received.receives()), (&b"kept"[..], 1));
    // And the receiver can do without the thread.
    let mut receiver = receiver.into_inner();
    queue.sender().unwrap().send(b"next").unwrap();
    assert!(receiver.receive_message(&mut incoming).unwrap().is_some());
}

#[test]
fn a_task_is_woken_when_a_delay_ends_and_when_a_lease_ends() {
    let (_root, bus) = bus();
    let queue = queue(&bus, "q");
    let mut receiver = in_task(&queue);
    let visibility = Duration::from_millis(50);
    receiver.get_mut().set_visibility(visibility).unwrap();
    let mut sender = queue.sender().unwrap();
    sender.send_delayed(b"later", visibility).unwrap();
    let mut incoming = Incoming::new();
    for receives in 1..4 {
        let received = pollster::block_on(receiver.receive(&mut incoming)).unwrap();
        assert_eq!(received.receives(), receives);
    }
}

#[test]
fn a_task_is_told_when_its_queue_is_removed_and_when_its_file_is_gone() {
    for by_hand in [false, true] {
        let (root, bus) = bus();
        let queue = queue(&bus, "q");
        let mut receiver = in_task(&queue);
        let mut incoming = Incoming::new();
        let alarm = Arc::new(Alarm::default());
        let waker = Waker::from(Arc::clone(&alarm));
        let mut context = Context::from_waker(&waker);
        assert!(
            receiver
                .poll_receive(&mut context, &mut incoming)
                .is_pending()
        );
        if by_hand {
            std::fs::remove_file(root.path().join("ringway-test/objects/q")).unwrap();
        } else {
            bus.remove("q").unwrap();
        }
        await_condition("the wake", || alarm.0.load(SeqCst) > 0).unwrap();
        let told = receiver.poll_receive(&mut context, &mut incoming);
        let is_told = match &told {
            Poll::Ready(Err(ReceiveError::Unlinked)) => by_hand,
            Poll::Ready(Err(ReceiveError::Removed)) => !by_hand,
            _ => false,
        };
        assert!(is_told, "{told:?}");
    }
}

#[test]
fn tasks_that_compete_receive_each_message_once() {
    const MESSAGES: usize = 2000;
    let (_root, bus) = bus();
    let queue = queue(&bus, "q");
    let seen: Vec<AtomicUsize> = (0..MESSAGES).map(|_| AtomicUsize::new(0)).collect();
    let count = AtomicUsize::new(0);
    let consume = || {
        let mut receiver = in_task(&queue);
        let mut incoming = Incoming::new();
        while count.load(SeqCst) < MESSAGES {
            let received = pollster::block_on(receiver.receive(&mut incoming)).unwrap();
            receiver.get_mut().delete(&received.receipt).unwrap();
            let Ok(number) = incoming.body().try_into().map(u64::from_le_bytes) else {
                return; // the end
            };
            seen[number as usize].fetch_add(1, SeqCst);
            count.fetch_add(1, SeqCst);
        }
    };
    std::thread::scope(|scope| {
        let consumers: Vec<_> = (0..3).map(|_| scope.spawn(consume)).collect();
        let mut sender = queue.sender().unwrap();
        for number in 0..MESSAGES as u64 {
            sender.send_timeout(&number.to_le_bytes(), MINUTE).unwrap();
        }
        await_condition("all of them", || count.load(SeqCst) == MESSAGES).unwrap();
        consumers.iter().for_each(|_| drop(sender.send(b"end")));
    });
    assert!(seen.iter().all(|seen| seen.load(SeqCst) == 1));
}

#[test]
fn a_reactor_watches_the_descriptor_of_a_queue() {
    let (_root, bus) = bus();
    let queue = queue(&bus, "q");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut receiver = queue.receiver().unwrap();
        let descriptor = receiver.poll_descriptor().unwrap();
        // SAFETY: the descriptor keeps its number open until it is dropped, and is only dropped
        // together with the registration.
        let readiness = unsafe { tokio::io::unix::AsyncFd::register(descriptor) }.unwrap();
        let mut incoming = Incoming::new();
        for number in 0..200u64 {
            let to = queue.clone();
            let send = std::thread::spawn(move || {
                to.sender().unwrap().send(&number.to_le_bytes()).unwrap();
            });
            let received = loop {
                if let Some(received) = receiver.receive_message(&mut incoming).unwrap() {
                    break received;
                }
                let readable = readiness.readable();
                let mut guard = tokio::time::timeout(MINUTE, readable)
                    .await
                    .expect("a wake was lost")
                    .unwrap();
                guard.clear_ready();
            };
            assert_eq!(incoming.body(), number.to_le_bytes());
            receiver.delete(&received.receipt).unwrap();
            send.join().unwrap();
        }
    });
}

#[test]
fn one_wait_is_for_channels_and_queues_together() {
    let (_root, bus) = bus();
    for idle in [Idle::Park, Idle::SpinThenPark, Idle::Spin] {
        let name = |kind| format!("{kind}-{idle:?}");
        let channel = bus.channel(&name("channel")).slots(1024).create().unwrap();
        let queues = [queue(&bus, &name("one")), queue(&bus, &name("two"))];
        let mut reader = channel.reader().idle(idle).join().unwrap();
        let mut producer = channel.producer().unwrap();
        let mut receivers: Vec<QueueReceiver> = queues
            .iter()
            .map(|queue| queue.receiver().unwrap())
            .collect();
        let mut buffer = [0; 8];
        for round in 0..99usize {
            std::thread::scope(|scope| {
                scope.spawn(|| match round % 3 {
                    0 => drop(producer.try_send(b"record").unwrap()),
                    number => drop(queues[number - 1].sender().unwrap().send(b"message")),
                });
                let [one, two] = &mut receivers[..] else {
                    unreachable!("two receivers")
                };
                let all: &mut [&mut dyn Waitable] = &mut [&mut reader, one, two];
                assert_eq!(wait_any(all, MINUTE).unwrap(), Some(round % 3));
            });
            match round % 3 {
                0 => drop(reader.try_read(&mut buffer).unwrap().expect("a record")),
                number => {
                    let taken = receivers[number - 1].receive_and_delete(&mut buffer);
                    assert!(taken.unwrap().is_some());
                }
            }
            let none = wait_any(&mut [&mut receivers[0]], Duration::ZERO).unwrap();
            assert_eq!(none, None);
        }
    }
}

#[test]
fn a_wait_for_many_says_which_kind_of_end_it_met() {
    let (_root, bus) = bus();
    let channel = bus.channel("c").slots(1024).create().unwrap();
    let queue = queue(&bus, "q");
    let mut reader = channel.reader().join().unwrap();
    let mut receiver = queue.receiver().unwrap();
    bus.remove("q").unwrap();
    let all: &mut [&mut dyn Waitable] = &mut [&mut reader, &mut receiver];
    assert_eq!(wait_any(all, MINUTE), Err(WaitError::Removed));
}
