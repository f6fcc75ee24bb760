//! The running agent, for other commands of this user.
