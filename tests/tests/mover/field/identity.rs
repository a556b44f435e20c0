//! What a name is while the source changes, or while its file system cannot tell.
