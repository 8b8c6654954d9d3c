//! A brokerless message bus.
