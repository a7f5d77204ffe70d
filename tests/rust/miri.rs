//! Tests for Miri, without C code: the fast decoder's loads and stores, and threads that share a
//! layer. `cargo +nightly miri test -p tocsin-core --test miri`.
//!
//! `support::deflate` writes the streams and computes their expected output. Each piece of input is
//! a separate allocation, so a load beyond a piece is a load beyond its allocation.
#![allow(clippy::cast_possible_truncation, reason = "test data is small")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at once")]

mod support;

use support::BitWriter;
use support::deflate::{Codes, Shape, Token, block, expand, stored};
use tocsin_core::checkpoint::{Checkpoint, WINDOW_LEN, Window};
use tocsin_core::error::{CodeName, GzipError};
use tocsin_core::gzip::{Event, GzipDecoder};
use tocsin_core::inflate::{Inflater, Speed, Stop};
use tocsin_core::parallel::{
    BlobConsumer, CheckpointPolicy, ConsumerSet, Consumers, OutputConsumer, Pipeline, Settings,
    SpanConsumer,
};
use tocsin_core::span::{CompressedOffset, UncompressedOffset};

/// The cases of a test: all of them, or only a few under Miri, which is a thousand times slower.
fn cases<T>(all: impl IntoIterator<Item = T>, few: impl IntoIterator<Item = T>) -> Vec<T> {
    if cfg!(miri) { few.into_iter().collect() } else { all.into_iter().collect() }
}

fn literals(bytes: &[u8]) -> impl Iterator<Item = Token> {
    bytes.iter().copied().map(Token::Literal)
}

/// The result of inflating a stream: the output, and why decoding stopped before the end of the
/// last block. `None` means the end of the input.
#[derive(Debug, PartialEq, Eq)]
struct Inflated {
    output: Vec<u8>,
    end: Result<(), Option<GzipError>>,
}

fn inflate(mut inflater: Inflater, stream: &[u8], piece_len: usize) -> Inflated {
    let mut output = Vec::new();
    let mut ended = Err(None);
    'pieces: for piece in stream.chunks(piece_len.max(1)) {
        let piece: Box<[u8]> = piece.into();
        let mut input = &piece[..];
        loop {
            let stop = inflater.run(&mut input);
            inflater.take_output(|bytes| output.extend_from_slice(bytes));
            match stop {
                Ok(Stop::NeedInput) => break,
                Ok(Stop::BlockEnd { last: true }) => {
                    ended = Ok(());
                    break 'pieces;
                }
                Ok(Stop::OutputFull | Stop::BlockEnd { last: false }) => {}
                Ok(Stop::BlockHeader | Stop::Pause) => {}
                Err(kind) => {
                    ended = Err(Some(kind));
                    break 'pieces;
                }
            }
        }
    }
    Inflated { output, end: ended }
}

/// Checks that both decoders inflate the stream to `wanted`, at several piece lengths. Miri runs
/// only the fast decoder, since the plain one has no `unsafe` code.
fn check(stream: &[u8], wanted: &[u8], piece_lens: &[usize]) {
    for speed in cases([Speed::Plain, Speed::Fast], [Speed::Fast]) {
        for piece_len in piece_lens {
            let inflated = inflate(Inflater::new(speed), stream, *piece_len);
            assert_eq!(inflated.end, Ok(()), "{speed:?} piece {piece_len}");
            assert!(inflated.output == wanted, "{speed:?} piece {piece_len}");
        }
    }
}

fn check_tokens(tokens: &[Token], codes: Codes, piece_lens: &[usize]) {
    let mut wanted = Vec::new();
    assert!(expand(tokens, &mut wanted), "the tokens are valid");
    let mut stream = block(BitWriter::new(), tokens, codes, true).finish();
    // Bytes after the stream, so that the fast decoder handles the last symbol too.
    stream.extend([0xa5; 24]);
    check(&stream, &wanted, piece_lens);
}

const LONG_WORDS: Codes = Codes::Dynamic {
    litlen: Shape { skew: 13, reversed: false, unused: 40 },
    distance: Shape { skew: 12, reversed: false, unused: 9 },
};

#[test]
fn match_when_length_and_distance_vary_then_copies_the_bytes() {
    let seed: Vec<u8> = (0..=255).cycle().take(700).map(|byte: u8| byte ^ 0x5a).collect();
    let distances = cases(
        (1..=70).chain([127, 255, 256, 257, 258, 259, 600, 700]),
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 31, 32, 33, 259, 700],
    );
    let lens = cases(3..=258, [3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 34, 64, 65, 257, 258]);
    for codes in cases([Codes::Fixed, LONG_WORDS], [LONG_WORDS]) {
        let mut tokens: Vec<Token> = literals(&seed).collect();
        for distance in &distances {
            for len in &lens {
                tokens.push(Token::Match { len: *len, distance: *distance });
                // At most three literals between matches.
                tokens.extend(literals(b"xyz").take((len + distance) % 4));
            }
        }
        check_tokens(&tokens, codes, &[usize::MAX]);
    }
}

#[test]
fn code_when_shape_varies_then_words_in_main_table_and_subtables_decode() {
    let mut tokens: Vec<Token> = (0..=255).map(Token::Literal).collect();
    for step in 0..cases([400], [100])[0] {
        tokens.push(Token::Match { len: 3 + step * 7 % 256, distance: 1 + step * step % 250 });
        tokens.extend(literals(&[step as u8, (step * 3) as u8]));
    }
    for skew in cases(0..=15, [0, 4, 9, 15]) {
        for reversed in [false, true] {
            let shape = |unused| Shape { skew, reversed, unused };
            let codes = Codes::Dynamic { litlen: shape(skew % 3 * 10), distance: shape(30) };
            check_tokens(&tokens, codes, &[usize::MAX]);
        }
    }
}

#[test]
fn literals_when_two_share_an_entry_then_output_does_not_depend_on_pieces() {
    // Code words of 1, 2, 3... bits: nearly any two literals fit in one lookup, and a piece may
    // end, or a match begin, after the first of them.
    let shape = |unused| Shape { skew: 9, reversed: false, unused };
    let codes = Codes::Dynamic { litlen: shape(0), distance: shape(3) };
    for run in 0..cases([40], [9])[0] {
        let mut tokens: Vec<Token> = literals(b"aabacabd").collect();
        for step in 0..12 {
            tokens.extend((0..run).map(|at| Token::Literal(b'a' + (at * at + step) as u8 % 7)));
            tokens.push(Token::Match { len: 3 + step, distance: 1 + step % 8 });
        }
        check_tokens(&tokens, codes, &cases([1, 2, 9, 17, 33, usize::MAX], [17, usize::MAX]));
    }
}

#[test]
fn output_when_buffer_fills_with_pairs_of_literals_then_continues() {
    let shape = Shape { skew: 9, reversed: false, unused: 0 };
    let codes = Codes::Dynamic { litlen: shape, distance: shape };
    for shift in cases(0..10, [1]) {
        let mut tokens: Vec<Token> = literals(&b"ab"[..1 + shift % 2]).collect();
        // Matches up to near the end of the buffer, then only literals across it.
        tokens.extend([Token::Match { len: 258, distance: 1 }; 506]);
        tokens.extend((0..1200 + shift).map(|at| Token::Literal(b"aab"[at % 3])));
        check_tokens(&tokens, codes, &[usize::MAX]);
    }
}

#[test]
fn code_when_it_has_a_single_code_word_then_decodes() {
    let plain = Codes::Dynamic { litlen: Shape::default(), distance: Shape::default() };
    check_tokens(&[], plain, &[usize::MAX, 1]);
    let run = [Token::Literal(7), Token::Match { len: 258, distance: 1 }];
    let tokens: Vec<Token> = run.into_iter().chain([run[1]; 40]).collect();
    check_tokens(&tokens, plain, &[usize::MAX, 1]);
}

#[test]
fn stream_when_split_anywhere_then_output_is_the_same() {
    let mut tokens: Vec<Token> = literals(b"edges of the input, one by one").collect();
    for (len, distance) in [(3, 1), (258, 7), (20, 30), (5, 280), (100, 16), (3, 2)] {
        tokens.push(Token::Match { len, distance });
        tokens.extend(literals(b"-"));
    }
    for codes in [Codes::Fixed, LONG_WORDS] {
        check_tokens(&tokens, codes, &cases(1..=100, [1, 2, 15, 16, 17, 18, 24, 25, 40]));
    }
}

#[test]
fn stream_when_truncated_anywhere_then_output_so_far_is_the_same() {
    let mut tokens: Vec<Token> = literals(b"0123456789abcdef").collect();
    tokens
        .extend([(9, 3), (258, 16), (4, 1)].map(|(len, distance)| Token::Match { len, distance }));
    tokens.extend(literals(b"end"));
    let mut wanted = Vec::new();
    assert!(expand(&tokens, &mut wanted));
    let stream = block(BitWriter::new(), &tokens, Codes::Fixed, true).finish();
    for len in 0..=stream.len() {
        let plain = inflate(Inflater::new(Speed::Plain), &stream[..len], usize::MAX);
        assert_eq!(inflate(Inflater::new(Speed::Fast), &stream[..len], usize::MAX), plain, "{len}");
        assert!(wanted.starts_with(&plain.output), "{len}");
        assert_eq!(plain.end.is_ok(), len == stream.len(), "{len}");
    }
    for spare in 0..40 {
        let stream = [&stream[..], &vec![0xff; spare]].concat();
        check(&stream, &wanted, &[usize::MAX]);
    }
}

#[test]
fn output_when_buffer_fills_then_continues() {
    // The buffer slides several times, and matches reach the whole window after a slide. The fill
    // before it decides which symbol is at the end of the buffer.
    for fill in cases(0..=330, [0_usize, 200]) {
        let mut tokens: Vec<Token> = (0..=255).map(Token::Literal).collect();
        let long = |distance| Token::Match { len: 258, distance };
        tokens.extend([long(256); 130]);
        tokens.extend((0..fill).map(|at| Token::Literal(at as u8)));
        for step in 0..cases([2400], [1100])[0] {
            tokens.push(long([WINDOW_LEN, 20_000, 300, 17, 9, 5, 1][step % 7]));
            tokens.extend(literals(b"pqr").take(step % 4));
        }
        check_tokens(&tokens, Codes::Fixed, &cases([usize::MAX, 4096], [usize::MAX]));
    }
}

#[test]
fn output_when_buffer_fills_with_literals_and_runs_then_continues() {
    let mut stream = BitWriter::new();
    let mut wanted = Vec::new();
    for step in 0..cases([9], [1])[0] {
        // Stored bytes up to near the end of the buffer, then symbols across its end.
        let data: Vec<u8> =
            (0..cases([65_535_usize], [300])[0]).map(|at| (at % 251) as u8).collect();
        for _ in 0..4 {
            stream = stored(stream, &data, false);
            wanted.extend_from_slice(&data);
        }
        let mut tokens = vec![Token::Match { len: 258, distance: 3 }; 4 + step];
        tokens.extend(literals(&[0x33; 1000]));
        assert!(expand(&tokens, &mut wanted));
        stream = block(stream, &tokens, LONG_WORDS, false);
    }
    let stream = block(stream, &[], Codes::Fixed, true).finish();
    check(&stream, &wanted, &cases([usize::MAX, 1000], [usize::MAX]));
}

#[test]
fn resume_when_at_a_checkpoint_then_matches_reach_into_its_window() {
    let history: Vec<u8> = (0..WINDOW_LEN).map(|at| (at * 7 + at / 256) as u8).collect();
    let mut tokens = Vec::new();
    for (len, distance) in [(258, WINDOW_LEN), (40, WINDOW_LEN - 1), (100, 8), (3, 1), (9, 70)] {
        tokens.push(Token::Match { len, distance });
        tokens.push(Token::Literal(b'.'));
    }
    let mut wanted = history.clone();
    assert!(expand(&tokens, &mut wanted));
    let window = Window::ending_with(&history);
    for bits in 0..8_u32 {
        // The stream starts with the last `bits` bits of the byte before it.
        let stream = BitWriter::new().put((8 - bits) % 8, 0, "the block before");
        let stream = block(stream, &tokens, LONG_WORDS, true).finish();
        let (first, rest) = stream.split_at(usize::from(bits > 0));
        let held = first.first().map_or(0, |first| first >> (8 - bits));
        for speed in [Speed::Plain, Speed::Fast] {
            let inflater = Inflater::resume(speed, &window, held, bits as u8);
            let inflated = inflate(inflater, &[rest, &[0; 20]].concat(), usize::MAX);
            assert_eq!(inflated.end, Ok(()), "{speed:?} bits {bits}");
            assert!(inflated.output == wanted[WINDOW_LEN..], "{speed:?} bits {bits}");
        }
    }
}

#[test]
fn match_when_distance_is_too_far_then_rejected_before_copying() {
    let cases = [(Speed::Plain, 1), (Speed::Fast, 1), (Speed::Plain, 4000), (Speed::Fast, 4000)];
    for (speed, too_far) in cases {
        let mut tokens: Vec<Token> = literals(&[b'x'; 200]).collect();
        tokens.push(Token::Match { len: 258, distance: 200 + too_far });
        let mut stream = block(BitWriter::new(), &tokens, LONG_WORDS, true).finish();
        stream.extend([0; 24]);
        let inflated = inflate(Inflater::new(speed), &stream, usize::MAX);
        let distance = 200 + too_far as u32;
        let kind = GzipError::DistanceTooFar { distance, available: 200 };
        assert_eq!(inflated, Inflated { output: vec![b'x'; 200], end: Err(Some(kind)) });
    }
}

#[test]
fn symbol_when_invalid_then_rejected() {
    for (word, code) in [(Some(30), CodeName::Distance), (None, CodeName::LitLen)] {
        for speed in [Speed::Plain, Speed::Fast] {
            let stream = BitWriter::new().put(1, 1, "BFINAL").put(2, 1, "BTYPE: fixed").code(
                8,
                0x30,
                "literal 0",
            );
            let stream = match word {
                Some(word) => stream.code(7, 1, "length 3").code(5, word, "distance"),
                None => stream.code(8, 0b1100_0110, "symbol 286"),
            };
            let mut stream = stream.finish();
            stream.extend([0; 24]);
            let inflated = inflate(Inflater::new(speed), &stream, usize::MAX);
            let end = Err(Some(GzipError::InvalidSymbol(code)));
            assert_eq!(inflated, Inflated { output: vec![0], end });
        }
    }
}

#[test]
fn layer_when_it_has_several_members_then_equals_the_plain_decoder() {
    let mut layer = Vec::new();
    let mut wanted = Vec::new();
    for (index, codes) in [Codes::Fixed, LONG_WORDS, Codes::Fixed].into_iter().enumerate() {
        let mut tokens: Vec<Token> = literals(b"member").collect();
        tokens.extend([Token::Match { len: 30 + index, distance: 6 }; 5]);
        let mut data = Vec::new();
        assert!(expand(&tokens, &mut data));
        let stream = stored(BitWriter::new(), b"", false);
        layer.extend(support::member(&block(stream, &tokens, codes, true).finish(), &data));
        wanted.extend(data);
    }
    for piece_len in cases(1..=layer.len(), [1, 17, layer.len()]) {
        let plain = support::decode(&layer, piece_len, Speed::Plain).unwrap();
        assert_eq!(support::decode(&layer, piece_len, Speed::Fast).unwrap(), plain);
        assert!(plain.output == wanted);
    }
    for (bit, out) in support::decode(&layer, usize::MAX, Speed::Plain).unwrap().candidates {
        let checkpoint = Checkpoint {
            compressed: CompressedOffset(bit.div_ceil(8)),
            uncompressed: UncompressedOffset(out),
            bits: (bit.next_multiple_of(8) - bit) as u8,
            window: Window::ending_with(&wanted[..out as usize]),
        };
        let mut decoder = GzipDecoder::resume(Speed::Fast, &checkpoint, layer[bit as usize / 8]);
        let mut input = &layer[bit.div_ceil(8) as usize..];
        let mut rest = Vec::new();
        while decoder.step(&mut input).unwrap() != Event::NeedInput {
            decoder.take_output(|bytes| rest.extend_from_slice(bytes));
        }
        decoder.finish().unwrap();
        assert!(rest == wanted[out as usize..], "bit {bit}");
    }
}

/// Selects every candidate and keeps everything that it receives.
#[derive(Debug, Default)]
struct Keeper {
    bytes: Vec<u8>,
    checkpoints: Vec<Checkpoint>,
}

impl Consumers for Keeper {
    type Policy = Self;
    type Spans = Self;
    type Blob = Self;
    type Output = Self;
}

impl CheckpointPolicy for Keeper {
    fn take(&mut self, _: UncompressedOffset) -> tocsin_core::Result<bool> {
        Ok(true)
    }
}

impl SpanConsumer<Self> for Keeper {
    fn push(&mut self, _: u64, bytes: &[u8], checkpoints: Vec<Checkpoint>) {
        self.bytes.extend_from_slice(bytes);
        self.checkpoints.extend(checkpoints);
    }

    fn push_with(
        &mut self,
        blob: &mut Self,
        start: u64,
        bytes: &[u8],
        checkpoints: Vec<Checkpoint>,
    ) {
        SpanConsumer::push(self, start, bytes, checkpoints);
        BlobConsumer::push(blob, bytes);
    }
}

impl BlobConsumer for Keeper {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
}

impl OutputConsumer for Keeper {
    fn push(&mut self, bytes: &[u8]) -> tocsin_core::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

#[test]
fn pipeline_when_threads_share_a_layer_then_result_equals_one_threads() {
    // Blocks of a few hundred bytes that copy from far back, so that there are guesses, which are
    // accepted after 32 KiB and are full of markers.
    let period: Vec<u8> = (0..33_000_u32).map(|index| (index * index % 253) as u8).collect();
    let mut tokens = vec![literals(&period).collect::<Vec<_>>()];
    for index in 0..cases(0..60, 0..24).len() {
        let mut some: Vec<Token> = literals(&period[index * 9..index * 9 + 150]).collect();
        some.extend([Token::Match { len: 90, distance: 32_000 - index * 7 }; 3]);
        tokens.push(some);
    }
    let codes = Codes::Dynamic { litlen: Shape::default(), distance: Shape::default() };
    let (mut stream, mut data) = (BitWriter::new(), Vec::new());
    for (index, tokens_of_block) in tokens.iter().enumerate() {
        stream = block(stream, tokens_of_block, codes, index + 1 == tokens.len());
        assert!(expand(tokens_of_block, &mut data));
    }
    let layer = support::member(&stream.finish(), &data);

    for threads in [2, 3] {
        let consumers: ConsumerSet<Keeper> = ConsumerSet {
            policy: Keeper::default(),
            spans: Keeper::default(),
            blob: Keeper::default(),
            output: Keeper::default(),
        };
        let settings = Settings { threads, unit_len: 300, traces: false };
        let mut pipeline = Pipeline::new(settings, consumers);
        layer.chunks(1_000).try_for_each(|piece| pipeline.push(piece)).unwrap();
        let found = pipeline.finish().unwrap();
        assert!(found.output.bytes == data, "{threads} threads");
        assert!(found.spans.bytes == layer, "{threads} threads");
        assert!(found.blob.bytes == layer, "{threads} threads");
        assert_eq!(found.spans.checkpoints.len(), tokens.len(), "{threads} threads");
        for checkpoint in &found.spans.checkpoints {
            let before = &data[..checkpoint.uncompressed.0 as usize];
            assert!(checkpoint.window == Window::ending_with(before), "{threads} threads");
        }
    }
}
