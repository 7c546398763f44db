//! Tests of deliveries, by theme.

mod compression;
mod connections;
mod failover;
mod health;
mod lag;
mod metrics;
mod random;
mod room;
mod sizes;
mod waits;
