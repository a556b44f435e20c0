//! The mover as users and coordinators meet it: the built binary on real trees.

mod aged;
mod arguments;
mod churn;
mod faithful;
mod field;
mod foreign;
mod histories;
mod hostile;
mod inspect;
mod left;
mod limits;
mod live;
mod load;
mod mapped;
mod network;
mod random;
mod room;
mod serve;
mod strangers;
mod sync;
mod thrifty;
mod worlds;
mod writers;
