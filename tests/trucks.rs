//! The table of a hundred trucks is what it says, by the program that shows it (`--example trucks`).

use ringway_harness::TempBus;

#[allow(dead_code, reason = "`main` is for those who run it")]
#[path = "../examples/rust/trucks.rs"]
mod trucks;

#[test]
fn a_hundred_trucks_are_in_five_shards_and_each_is_read_in_its_order_by_one_at_a_time() {
    let root = TempBus::new().unwrap();
    let table = trucks::drive(root.path(), 60).unwrap();
    println!("{table}");
    assert!(table.is_right(), "{table}");
    assert_eq!((table.rows.len(), table.trucks), (5, 100), "{table}");
    let counts: Vec<usize> = table.rows.iter().map(|row| row.trucks).collect();
    assert_eq!(counts.iter().sum::<usize>(), 100, "{table}");
    assert!(counts.iter().all(|count| *count > 0), "{table}");
    assert!((1..=5).contains(&table.at_a_time), "{table}");
    // 1 MB a second and shard: 50 reports of 20 kB, of which the key counts too; twice where a second ended.
    for taken in &table.taken_a_second {
        assert!((500_000..=2_000_000).contains(taken), "{table}");
    }
}
