//! What arrives on one connection, of one envelope or of the pieces in several.
//!
//! A message over the connection's allowance is not held: where it is an answer,
//! an error takes its place, and its other pieces pass by. It can't wait for
//! room as on a socket of its own, for the other connections are in the same one.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::OwnedSemaphorePermit;

use super::envelope::Piece;
use crate::codex::connection::UNIT;
use crate::codex::refusal::{HEAD, LARGE, Why, refusal};
use crate::codex::{Allowance, ReceiveError, Text};

/// A message for whoever holds the connection.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) text: Text,
    /// The room that a large message takes, until the next one is asked for.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// Whether a message may pass: as it is, or with something in its place.
enum Admission {
    Passes(Option<OwnedSemaphorePermit>),
    Replaced(Text),
}

/// Decides from the first bytes of a message and the length of the whole.
fn admit(head: &[u8], length: u64, allowance: &Allowance) -> Result<Admission, ReceiveError> {
    let limit = allowance.largest.load(Ordering::Relaxed) as u64;
    let why = if length > limit {
        Why::TooLarge { limit }
    } else if length < LARGE {
        return Ok(Admission::Passes(None));
    } else {
        let units = u32::try_from(length.div_ceil(UNIT)).unwrap_or(u32::MAX);
        match Arc::clone(&allowance.room).try_acquire_many_owned(units) {
            Ok(permit) => return Ok(Admission::Passes(Some(permit))),
            Err(_) => Why::NoRoom,
        }
    };
    let head = &head[..head.len().min(HEAD)];
    refusal(head, length, why).map(|error| Admission::Replaced(error.into())).ok_or(ReceiveError::TooLong)
}

/// A message that came in one envelope.
pub(super) fn whole(message: &str, allowance: &Allowance) -> Result<Arrived, ReceiveError> {
    Ok(match admit(message.as_bytes(), message.len() as u64, allowance)? {
        // A copy: a part of the envelope would keep alive all that was read from the socket with it.
        Admission::Passes(permit) => Arrived { text: message.to_owned().into(), permit },
        Admission::Replaced(text) => Arrived { text, permit: None },
    })
}

/// A message of which some pieces are there.
#[derive(Debug)]
pub(super) struct Joining {
    count: u32,
    size: u64,
    /// Bytes so far, held or not.
    have: u64,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    /// Grows with what arrives, not to what was promised.
    Bytes(Vec<u8>, Option<OwnedSemaphorePermit>),
    Replaced(Text),
}

impl Joining {
    /// Takes the next piece of a message, which the caller knows to be the next one; the message when it was the last.
    ///
    /// After an error the connection is over: nobody can tell what is missing.
    pub(super) fn take(
        joining: &mut Option<Self>,
        piece: &Piece<'_>,
        allowance: &Allowance,
    ) -> Result<Option<Arrived>, ReceiveError> {
        let bytes = piece.bytes().ok_or(ReceiveError::Protocol)?;
        let so_far = match joining {
            Some(so_far) => so_far,
            None => joining.insert(Self {
                count: piece.count,
                size: piece.size,
                have: 0,
                kept: match admit(&bytes, piece.size, allowance)? {
                    Admission::Passes(permit) => Kept::Bytes(Vec::new(), permit),
                    Admission::Replaced(text) => Kept::Replaced(text),
                },
            }),
        };
        so_far.have += bytes.len() as u64;
        let is_last = piece.segment + 1 == so_far.count;
        let fits = if is_last { so_far.have == so_far.size } else { so_far.have < so_far.size };
        if (piece.count, piece.size) != (so_far.count, so_far.size) || !fits {
            return Err(ReceiveError::Protocol);
        }
        if let Kept::Bytes(kept, _) = &mut so_far.kept {
            kept.extend_from_slice(&bytes);
        }
        if !is_last {
            return Ok(None);
        }
        let arrived = match joining.take().map(|joined| joined.kept) {
            Some(Kept::Bytes(bytes, permit)) => {
                let text = String::from_utf8(bytes).map_err(|_| ReceiveError::Protocol)?;
                Arrived { text: text.into(), permit }
            }
            Some(Kept::Replaced(text)) => Arrived { text, permit: None },
            None => return Ok(None),
        };
        Ok(Some(arrived))
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use data_encoding::BASE64;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn piece(bytes: &[u8], segment: u32, count: u32, size: usize) -> Piece<'static> {
        Piece { segment, count, size: size as u64, base64: Cow::Owned(BASE64.encode(bytes)) }
    }

    /// The message of such pieces, or the error.
    fn join(pieces: &[Piece<'_>], allowance: &Allowance) -> Result<Option<Arrived>, ReceiveError> {
        let mut joining = None;
        let mut arrived = None;
        for piece in pieces {
            assert!(arrived.is_none(), "whole before its last piece");
            arrived = Joining::take(&mut joining, piece, allowance)?;
        }
        assert_eq!(arrived.is_none(), joining.is_some());
        Ok(arrived)
    }

    #[test]
    fn pieces_that_do_not_add_up_are_refused() {
        let allowance = Allowance::default();
        let refused = |pieces: &[Piece<'_>]| {
            assert!(matches!(join(pieces, &allowance), Err(ReceiveError::Protocol)), "{pieces:?}");
        };
        let good = || piece(b"ab", 0, 2, 4);
        assert_eq!(join(&[good(), piece(b"cd", 1, 2, 4)], &allowance).unwrap().unwrap().text, "abcd");
        assert!(join(&[good()], &allowance).unwrap().is_none());
        refused(&[good(), piece(b"c", 1, 2, 4)]);
        refused(&[good(), piece(b"cde", 1, 2, 4)]);
        refused(&[piece(b"abcd", 0, 2, 4)]);
        refused(&[good(), piece(b"cd", 1, 3, 4)]);
        refused(&[good(), piece(b"cd", 1, 2, 5)]);
        refused(&[good(), piece(b"", 1, 2, 4)]);
        refused(&[good(), piece(b"\xff\xff", 1, 2, 4)]);
        let unreadable = Piece { segment: 1, count: 2, size: 4, base64: "?".into() };
        refused(&[good(), unreadable]);
    }

    #[test]
    fn an_answer_over_the_allowance_is_an_error_under_its_id_and_nothing_of_it_is_held() {
        let allowance = Allowance::new(1000);
        let answer = format!(r#"{{"id":"ü","result":"{}"}}"#, "x".repeat(3000));
        let error = |arrived: Arrived| {
            let value: Value = serde_json::from_str(&arrived.text).unwrap();
            assert_eq!((&value["id"], &value["error"]["code"]), (&"ü".into(), &(-32011).into()));
        };
        error(whole(&answer, &allowance).unwrap());
        let (first, second) = answer.as_bytes().split_at(1500);
        let mut joining = None;
        let first = piece(first, 0, 2, answer.len());
        assert!(Joining::take(&mut joining, &first, &allowance).unwrap().is_none());
        assert!(matches!(&joining, Some(Joining { kept: Kept::Replaced(_), .. })));
        error(Joining::take(&mut joining, &piece(second, 1, 2, answer.len()), &allowance).unwrap().unwrap());
    }

    #[test]
    fn what_is_too_large_and_no_answer_is_an_end() {
        let allowance = Allowance::new(1000);
        let told = format!(r#"{{"method":"turn/diff","params":"{}"}}"#, "x".repeat(3000));
        assert!(matches!(whole(&told, &allowance), Err(ReceiveError::TooLong)));
        assert!(matches!(join(&[piece(b"{\"met", 0, 2, 5000)], &allowance), Err(ReceiveError::TooLong)));
    }

    #[test]
    fn large_answers_share_the_room_of_a_device() {
        let allowance = Allowance::new(3 << 20);
        let answer = format!(r#"{{"id":1,"result":"{}"}}"#, "x".repeat(2 << 20));
        let held = whole(&answer, &allowance).unwrap();
        assert!(held.permit.is_some());
        assert!(whole(&answer, &allowance).unwrap().text.contains("still under way"));
        drop(held);
        assert!(whole(&answer, &allowance).unwrap().text == answer);
    }

    proptest! {
        #[test]
        fn what_is_cut_anywhere_joins_to_the_same(
            text in "\\PC{1,200}",
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len())).filter(|cut| *cut > 0).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            cuts.dedup();
            let count = cuts.len() as u32 - 1;
            let pieces: Vec<_> = (0..count)
                .map(|n| piece(&text.as_bytes()[cuts[n as usize]..cuts[n as usize + 1]], n, count, text.len()))
                .collect();
            prop_assert_eq!(join(&pieces, &Allowance::default()).unwrap().unwrap().text, text);
        }

        #[test]
        fn pieces_at_random_are_no_panic(
            pieces in proptest::collection::vec(("[a-zA-Z0-9+/=]{0,12}", 0..4_u32, 1..4_u32, 0..20_u64), 0..6),
        ) {
            let mut joining = None;
            for (base64, segment, count, size) in pieces {
                let piece = Piece { segment, count, size, base64: base64.into() };
                if Joining::take(&mut joining, &piece, &Allowance::default()).is_err() {
                    break;
                }
            }
        }
    }
}
