//! zlib-ng's inflate with its own symbol names, so that it can be used with zlib in one process.

#![allow(unsafe_code, reason = "a C interface")]
#![allow(clippy::cast_possible_wrap, reason = "the size of a struct")]

use std::mem::MaybeUninit;

use libz_ng_sys as zng;

/// A window of 32 KiB and a gzip header (zlib.h, `inflateInit2`).
const GZIP: i32 = 15 + 16;

/// Inflates every member of `layer`, reusing `output` as the buffer, and returns the total size.
pub(crate) fn inflate(layer: &[u8], output: &mut [u8]) -> u64 {
    let mut stream = MaybeUninit::<zng::z_stream>::zeroed();
    let stream = stream.as_mut_ptr();
    let mut total = 0;
    // SAFETY: zeroed fields select zlib-ng's own allocator; the stream and everything it points to
    // outlive every call; layers are shorter than 4 GiB, so both lengths fit.
    unsafe {
        ((*stream).next_in, (*stream).avail_in) = (layer.as_ptr().cast_mut(), layer.len() as u32);
        let size = size_of::<zng::z_stream>() as i32;
        zng::inflateInit2_(stream, GZIP, zng::zlibVersion(), size);
        loop {
            ((*stream).next_out, (*stream).avail_out) = (output.as_mut_ptr(), output.len() as u32);
            let status = zng::inflate(stream, zng::Z_NO_FLUSH);
            total += (output.len() - (*stream).avail_out as usize) as u64;
            if status == zng::Z_STREAM_END && (*stream).avail_in > 0 {
                zng::inflateReset(stream);
            } else if status != zng::Z_OK {
                break;
            }
        }
        zng::inflateEnd(stream);
    }
    total
}
