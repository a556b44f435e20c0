//! Source and destination that are one tree, locks, links that others planted, output that goes nowhere.
