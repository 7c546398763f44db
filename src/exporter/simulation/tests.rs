//! Tests of deliveries, by theme.

mod connections;
mod failover;
mod health;
mod lag;
mod metrics;
mod random;
mod sizes;
mod waits;
