//! Files that are there as a whole or not at all.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    path::Path,
};

use tempfile::NamedTempFile;

/// Writes a file by way of another one beside it: written, synced, renamed, the folder synced. With the
/// permissions of `like`, if there is such a file, else for our own eyes only. Blocking.
pub(super) fn write(path: &Path, bytes: &[u8], like: Option<&Path>) -> io::Result<()> {
    let folder = folder_of(path);
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    if let Some(permissions) = like.and_then(permissions) {
        file.as_file().set_permissions(permissions)?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|err| err.error)?;
    // Some network mounts can't sync a folder; the file is there all the same.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// The folder that a file is in.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn permissions(path: &Path) -> Option<Permissions> {
    fs::metadata(path).ok().map(|file| file.permissions())
}
