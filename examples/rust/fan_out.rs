//! Orders are published once; billing gets all of them, shipping those that it asks for.

use ringway::{Attributes, Bus, Publication, SubscribeOptions};

const ORDERS: u32 = 100;

fn received(bus: &Bus, name: &str) -> Result<usize, Box<dyn std::error::Error>> {
    let mut receiver = bus.queue(name).open()?.receiver()?;
    let (mut body, mut count) = ([0; 64], 0);
    while receiver.receive_and_delete(&mut body)?.is_some() {
        count += 1;
    }
    Ok(count)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::open_or_create("shop")?;
    let topic = bus.topic("orders").open_or_create()?;
    for (name, filter) in [
        ("billing", None),
        ("shipping", Some(r#"{"kind": ["parcel"]}"#)),
    ] {
        bus.queue(name).open_or_create()?;
        // The order itself, not a JSON notification of it.
        let mut options = SubscribeOptions::new(name).raw(true);
        if let Some(filter) = filter {
            options = options.filter(filter);
        }
        topic.subscribe(&options)?;
    }

    let mut publisher = topic.publisher()?;
    for order in 0..ORDERS {
        let mut kind = Attributes::new();
        kind.string("kind", if order % 4 == 0 { "parcel" } else { "ticket" })?;
        let body = order.to_ne_bytes();
        publisher.publish(&Publication::new(&body).attributes(&kind))?;
    }
    let (billed, shipped) = (received(&bus, "billing")?, received(&bus, "shipping")?);
    println!("{ORDERS} orders published, {billed} billed, {shipped} shipped");

    drop((publisher, topic, bus));
    Bus::remove_bus("shop", None, false)?;
    Ok(())
}
