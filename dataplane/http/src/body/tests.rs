use super::*;
use crate::limits::{CHUNK_EXTENSION_BYTES_MAX, CHUNK_LINE_BYTES_MAX, TRAILER_BYTES_MAX};

/// Data, bytes left over, and trailers; `None` while incomplete.
type Verdict = Result<Option<(Vec<u8>, usize, Vec<String>)>, DecodeError>;

fn decode<'a>(length: BodyLength, pieces: impl Iterator<Item = &'a [u8]>) -> Verdict {
    let mut decoder = BodyDecoder::new(length);
    let mut data = Vec::new();
    let mut left = 0;
    for piece in pieces {
        let mut rest = piece;
        while !rest.is_empty() && !decoder.is_end() {
            let step = decoder.decode(rest)?;
            assert!(step.consumed > 0 || step.end, "no progress");
            assert!(step.data.end <= step.consumed);
            data.extend_from_slice(&rest[step.data]);
            rest = &rest[step.consumed..];
        }
        left += rest.len();
    }
    let trailers = decoder.trailers().into_iter().flat_map(|t| t.iter());
    let trailers =
        trailers.map(|(n, v)| format!("{}={}", String::from_utf8_lossy(n), String::from_utf8_lossy(v)));
    let trailers = trailers.collect();
    Ok(decoder.is_end().then_some((data, left, trailers)))
}

/// The verdict on `text`, the same at every split.
fn chunked(text: &str) -> Verdict {
    let bytes = text.as_bytes();
    let verdict = decode(BodyLength::Chunked, std::iter::once(bytes));
    assert_eq!(decode(BodyLength::Chunked, bytes.chunks(1)), verdict, "{text:?}");
    for at in 0..bytes.len() {
        let (a, b) = bytes.split_at(at);
        assert_eq!(decode(BodyLength::Chunked, [a, b].into_iter()), verdict, "split at {at}: {text:?}");
    }
    verdict
}

fn accepted(text: &str) -> (Vec<u8>, usize, Vec<String>) {
    chunked(text)
        .unwrap_or_else(|e| panic!("{text:?}: {e}"))
        .unwrap_or_else(|| panic!("{text:?}: incomplete"))
}

#[test]
fn body_of_known_length_ends_there() {
    let text = b"hello world";
    for at in 0..text.len() {
        let (a, b) = text.split_at(at);
        let verdict = decode(BodyLength::Length(5), [a, b].into_iter());
        assert_eq!(verdict, Ok(Some((b"hello".to_vec(), 6, Vec::new()))), "{at}");
    }
    assert_eq!(decode(BodyLength::Length(12), std::iter::once(&text[..])), Ok(None));
}

#[test]
fn bodies_that_are_not_there_end_at_once() {
    assert!(BodyDecoder::new(BodyLength::None).is_end());
    assert!(BodyDecoder::new(BodyLength::Length(0)).is_end());
    assert_eq!(BodyDecoder::new(BodyLength::None).finish(), Ok(()));
}

#[test]
fn only_open_ended_bodies_may_be_cut_by_a_close() {
    assert_eq!(BodyDecoder::new(BodyLength::UntilClose).finish(), Ok(()));
    assert_eq!(BodyDecoder::new(BodyLength::Tunnel).finish(), Ok(()));
    assert_eq!(BodyDecoder::new(BodyLength::Length(1)).finish(), Err(DecodeError::Incomplete));
    let text = b"5;a=\"b\"\r\nhello\r\n0\r\nT: v\r\n\r\n";
    for at in 0..text.len() {
        let mut decoder = BodyDecoder::new(BodyLength::Chunked);
        let mut rest = &text[..at];
        while !rest.is_empty() {
            let step = decoder.decode(rest).unwrap();
            rest = &rest[step.consumed..];
        }
        assert_eq!(decoder.finish(), Err(DecodeError::Incomplete), "{at}");
    }
}

#[test]
fn chunks_are_joined_and_the_rest_is_left() {
    assert_eq!(accepted("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET"), (b"hello world".to_vec(), 3, vec![]));
    assert_eq!(accepted("0\r\n\r\n"), (vec![], 0, vec![]));
    assert_eq!(accepted("00000000000000000000A\r\n0123456789\r\n000\r\n\r\n").0, b"0123456789");
}

#[test]
fn well_formed_extensions_are_read_over() {
    let text = "5;a;b=c;d=\"x; \\\"y\\\\\"\r\nhello\r\n0;last\r\n\r\n";
    assert_eq!(accepted(text).0, b"hello");
}

#[test]
fn trailers_are_kept() {
    let (_, left, trailers) = accepted("1\r\na\r\n0\r\nX-Sum: 1\r\nb:\r\n\r\nrest");
    assert_eq!((left, trailers), (4, vec!["X-Sum=1".to_owned(), "b=".to_owned()]));
}

#[test]
fn malformed_chunks_are_refused() {
    for text in [
        "g\r\n",
        "\r\n",
        " 5\r\nhello",
        "5 \r\nhello",
        "5\t\r\n",
        "-5\r\n",
        "+5\r\n",
        "0x5\r\n",
        "5\nhello",
        "5\rhello",
        "5\r\nhello\n",
        "5\r\nhelloX",
        "5\r\nhello\rX",
        "5\r\nhello5",
        "10000000000000000\r\n",
        "5;\r\n",
        "5; a\r\n",
        "5;=b\r\n",
        "5;a=\r\n",
        "5;a=\"b\r\n",
        "5;a=\"b\"c\r\n",
        "5;a=b c\r\n",
        "5 ;a\r\n",
        "5,a\r\n",
        "5;a=\"\0\"\r\n",
        "0\r\n\rX",
        "0\n\n",
    ] {
        assert_eq!(chunked(text), Err(DecodeError::Chunk), "{text:?}");
    }
}

#[test]
fn malformed_trailers_are_refused() {
    use DecodeError as E;
    assert_eq!(chunked("0\r\nA : b\r\n\r\n"), Err(E::FieldName));
    assert_eq!(chunked("0\r\nA: b\n\r\n"), Err(E::LineEnd));
    assert_eq!(chunked("0\r\n\nGET / HTTP/1.1\r\n"), Err(E::LineEnd));
    assert_eq!(chunked("0\r\nA: b\r\n c\r\n\r\n"), Err(E::FoldedLine));
    assert_eq!(chunked("0\r\nA: \0\r\n\r\n"), Err(E::FieldValue));
    for name in ["Content-Length", "transfer-encoding", "HOST", "Connection"] {
        assert_eq!(chunked(&format!("0\r\n{name}: 1\r\n\r\n")), Err(E::ForbiddenTrailer));
    }
}

#[test]
fn extensions_are_limited_per_line_and_per_body() {
    let line = |len: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "e".repeat(len - 3));
    assert!(decode(BodyLength::Chunked, std::iter::once(line(CHUNK_LINE_BYTES_MAX).as_bytes())).is_ok());
    assert_eq!(
        decode(BodyLength::Chunked, std::iter::once(line(CHUNK_LINE_BYTES_MAX + 1).as_bytes())),
        Err(DecodeError::ChunkExtensionsTooLarge)
    );
    let per_chunk = 1024;
    let chunk = format!("1;{}\r\na\r\n", "e".repeat(per_chunk - 1));
    let fits = CHUNK_EXTENSION_BYTES_MAX / per_chunk;
    assert!(decode(BodyLength::Chunked, std::iter::once(chunk.repeat(fits).as_bytes())).is_ok());
    assert_eq!(
        decode(BodyLength::Chunked, std::iter::once(chunk.repeat(fits + 1).as_bytes())),
        Err(DecodeError::ChunkExtensionsTooLarge)
    );
}

#[test]
fn trailers_are_limited() {
    let sized = |len: usize| format!("0\r\nT: {}\r\n\r\n", "v".repeat(len - 7));
    assert!(decode(BodyLength::Chunked, std::iter::once(sized(TRAILER_BYTES_MAX).as_bytes())).is_ok());
    let over = sized(TRAILER_BYTES_MAX + 1);
    for size in [over.len(), 1000] {
        assert_eq!(
            decode(BodyLength::Chunked, over.as_bytes().chunks(size)),
            Err(DecodeError::TrailersTooLarge)
        );
    }
    let many = |count: usize| format!("0\r\n{}\r\n", "T: v\r\n".repeat(count));
    assert!(matches!(chunked(&many(100)), Ok(Some(_))));
    assert_eq!(chunked(&many(101)), Err(DecodeError::TrailersTooLarge));
}

#[test]
fn data_is_never_copied_or_moved() {
    let mut decoder = BodyDecoder::new(BodyLength::Chunked);
    let step = decoder.decode(b"5\r\nhello\r\n").unwrap();
    assert_eq!(step, BodyStep { consumed: 8, data: 3..8, end: false });
}
