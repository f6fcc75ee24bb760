//! The proof by which a peer shows the relay its key: a JWT that it signs itself.
