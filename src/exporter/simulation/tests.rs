//! Tests of deliveries, by theme.

mod connections;
mod failover;
mod health;
mod metrics;
mod random;
mod sizes;
mod waits;
