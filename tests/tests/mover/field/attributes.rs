//! Extended attributes: carried, exempt, or left out by name.
