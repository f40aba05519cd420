//! Load for Ringshard and for what it is measured beside: fixed schedules, latency from the intended time, and an exact
//! account of what was lost, doubled or reordered.

pub mod browser;
pub mod compare;
pub mod connection;
pub mod crowd;
pub mod device;
pub mod durable;
pub mod echo;
pub mod flow;
pub mod ledger;
pub mod link;
pub mod load;
pub mod nats;
pub mod options;
pub mod order;
pub mod process;
pub mod redis;
pub mod report;
pub mod run;
pub mod schedule;
pub mod site;
pub mod speech;
pub mod stamp;
pub mod storm;
pub mod tally;
pub mod tunnel;
pub mod wire;
