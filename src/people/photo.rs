//! Photos: a folder of JPEG and PNG files.
//!
//! What comes from a browser is decoded and encoded anew, so that no file here holds anything but a
//! picture: no place where it was taken, no script.

use std::{
    collections::HashSet,
    fs,
    io::{self, Cursor},
    path::Path,
    time::{Duration, SystemTime},
};

use image::{
    DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, Rgb, RgbImage, codecs::jpeg::JpegEncoder,
};
use ring::digest::{SHA256, digest};

use super::{atomic, card::hex};

/// Largest upload, in bytes.
pub const UPLOAD_BYTES: usize = 2 << 20;

/// Pictures are made to fit a square of so many pixels: a screen shows them no larger.
const SIDE: u32 = 1024;

/// Largest side of a picture that is decoded, and what decoding may take: a small file can claim to be
/// as large as it likes.
const DECODED_SIDE: u32 = 12_000;
const DECODED_BYTES: u64 = 192 << 20;

const QUALITY: u8 = 85;

/// How long a photo that nobody has any more is kept: somebody may have just uploaded it, or want the
/// `.bak` back.
const KEPT_UNUSED: Duration = Duration::from_secs(24 * 3600);

/// Letters of the names that are given here, without `.jpg`.
const NAME_CHARS: usize = 32;

/// Why an upload is refused.
#[derive(Debug, thiserror::Error)]
pub enum PhotoError {
    /// For the person who uploads it.
    #[error("{0}")]
    Refused(&'static str),
    /// The folder.
    #[error("the photo can't be stored: {0}")]
    Unstored(#[from] io::Error),
}

/// Whether this can be the name of a photo: a plain file name that ends in `.jpg`, `.jpeg` or `.png`.
pub fn is_name(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    matches!(ending.as_deref(), Some("jpg" | "jpeg" | "png"))
        && name.len() <= 200
        && !name.starts_with('.')
        && !name.contains(|c: char| c.is_control() || matches!(c, '/' | '\\' | ':'))
}

/// Where a page finds it.
pub fn path(name: &str) -> String {
    let encoded: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
    // In a path, a plus is a plus.
    format!("/photos/{}", encoded.replace('+', "%20"))
}

/// Whether the name was given by [`store`]: then the file never changes.
pub fn is_stored_name(name: &str) -> bool {
    name.strip_suffix(".jpg").is_some_and(|stem| {
        stem.len() == NAME_CHARS && stem.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Checks an upload, makes a JPEG of it and stores it. The file's name, by its content. Blocking.
///
/// # Errors
/// See [`PhotoError`].
pub(super) fn store(folder: &Path, upload: &[u8]) -> Result<String, PhotoError> {
    let jpeg = encode_anew(upload)?;
    let hash = hex(digest(&SHA256, &jpeg).as_ref());
    let name = format!("{}.jpg", hash.get(..NAME_CHARS).unwrap_or(&hash));
    fs::create_dir_all(folder)?;
    atomic::write(&folder.join(&name), &jpeg, None)?;
    Ok(name)
}

fn encode_anew(upload: &[u8]) -> Result<Vec<u8>, PhotoError> {
    if upload.len() > UPLOAD_BYTES {
        return Err(PhotoError::Refused("a photo may have at most 2 MB"));
    }
    let format = image::guess_format(upload).ok();
    let format = format.filter(|format| matches!(format, ImageFormat::Jpeg | ImageFormat::Png));
    let format = format.ok_or(PhotoError::Refused("a photo is a JPEG or a PNG file"))?;
    let broken = |_| PhotoError::Refused("the photo is broken or too large to be read");
    let mut reader = ImageReader::with_format(Cursor::new(upload), format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(DECODED_SIDE);
    limits.max_image_height = Some(DECODED_SIDE);
    limits.max_alloc = Some(DECODED_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(broken)?;
    let orientation = decoder.orientation().map_err(broken)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(broken)?;
    if picture.width() > SIDE || picture.height() > SIDE {
        picture = picture.thumbnail(SIDE, SIDE);
    }
    picture.apply_orientation(orientation);
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(&on_white(&picture)).map_err(broken)?;
    Ok(jpeg)
}

/// Without transparency, which JPEG does not know.
fn on_white(picture: &DynamicImage) -> RgbImage {
    let rgba = picture.to_rgba8();
    let mut rgb = RgbImage::new(rgba.width(), rgba.height());
    for (to, from) in rgb.pixels_mut().zip(rgba.pixels()) {
        let [r, g, b, alpha] = from.0.map(u16::from);
        let blend = |value: u16| u8::try_from((value * alpha + 255 * (255 - alpha)) / 255).unwrap_or(u8::MAX);
        *to = Rgb([blend(r), blend(g), blend(b)]);
    }
    rgb
}

/// Removes the photos that were stored here and that nobody has had for a day. Blocking.
pub(super) fn sweep(folder: &Path, used: &HashSet<&str>) {
    let Ok(files) = fs::read_dir(folder) else { return };
    for file in files.flatten() {
        let name = file.file_name();
        let Some(name) = name.to_str().filter(|name| is_stored_name(name) && !used.contains(name)) else {
            continue;
        };
        let written = file.metadata().and_then(|file| file.modified());
        let age = written.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_some_and(|age| age > KEPT_UNUSED) {
            let removed = fs::remove_file(file.path());
            tracing::debug!(name, ok = removed.is_ok(), "unused photo removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use image::Rgba;

    use super::*;

    fn picture(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let picture = image::RgbaImage::from_pixel(width, height, Rgba([200, 0, 0, 0]));
        let picture = DynamicImage::from(picture);
        let picture = if format == ImageFormat::Jpeg { picture.to_rgb8().into() } else { picture };
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn a_name_is_a_plain_file_name() {
        for name in ["a.jpg", "王小明.PNG", "a b.jpeg"] {
            assert!(is_name(name), "{name}");
        }
        for name in
            ["", ".jpg", ".a.jpg", "../a.jpg", "a/b.jpg", "a\\b.jpg", "c:a.jpg", "a.svg", "a", "a\0.jpg"]
        {
            assert!(!is_name(name), "{name}");
        }
        assert_eq!(path("王 +.jpg"), "/photos/%E7%8E%8B%20%2B.jpg");
    }

    #[test]
    fn an_upload_becomes_a_jpeg_that_fits() {
        let folder = tempfile::tempdir().unwrap();
        let store = |bytes: &[u8]| store(&folder.path().join("photos"), bytes).unwrap();
        let name = store(&picture(2048, 512, ImageFormat::Png));
        assert!(is_stored_name(&name) && is_name(&name));
        let stored = image::open(folder.path().join("photos").join(&name)).unwrap().to_rgb8();
        assert_eq!(stored.dimensions(), (1024, 256));
        assert!(stored.get_pixel(5, 5).0.iter().all(|value| *value > 250), "what was transparent is white");
        assert_eq!(store(&picture(2048, 512, ImageFormat::Png)), name);
        assert_ne!(store(&picture(20, 10, ImageFormat::Jpeg)), name);
    }

    #[test]
    fn what_is_no_photo_is_refused() {
        let mut cut = picture(64, 64, ImageFormat::Png);
        cut.truncate(50);
        let mut huge = picture(8, 8, ImageFormat::Png);
        // The width, in the header; the checksum is wrong then, too.
        huge[16..20].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff]);
        let samples: [&[u8]; 6] =
            [b"", b"GIF89a", b"<svg onload=alert(1)>", &cut, &huge, &vec![0xff; UPLOAD_BYTES + 1]];
        for sample in samples {
            assert!(matches!(encode_anew(sample), Err(PhotoError::Refused(_))));
        }
    }

    #[test]
    fn only_what_was_stored_here_and_is_old_and_unused_goes() {
        let folder = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - KEPT_UNUSED * 2;
        let stored = |letter: &str| format!("{}.jpg", letter.repeat(NAME_CHARS));
        for (name, at) in [
            (stored("a"), old),
            (stored("b"), old),
            (stored("c"), SystemTime::now()),
            ("王小明.jpg".to_owned(), old),
        ] {
            let file = fs::File::create(folder.path().join(name)).unwrap();
            file.set_modified(at).unwrap();
        }
        let used = stored("b");
        sweep(folder.path(), &HashSet::from([&*used]));
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 3);
        assert!(!folder.path().join(stored("a")).exists());
    }
}
