//! One entry that the destination refuses is one entry, and nothing else is harmed.
