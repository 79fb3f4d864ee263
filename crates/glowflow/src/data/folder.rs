//! Pictures in a folder, whose sub-folders name the classes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use walkdir::WalkDir;

use super::DatasetOptions;
use super::files::{ImageFiles, Listing};
use super::fingerprint::Fingerprint;
use crate::error::{Error, Result};

/// Names of files that are looked at, in any case.
const EXTENSIONS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// What archives from macOS bring along.
const RESOURCE_FORKS: &str = "__MACOSX";

/// A picture under a folder.
struct Found {
    /// Relative to the folder.
    name: PathBuf,
    bytes: u64,
}

/// The PNG, JPEG and WebP files under a folder, in the byte order of their names. The sub-folders that have any name the
/// classes; deeper files belong to the sub-folder of the first level. Links are followed; hidden files are not looked at.
///
/// # Errors
///
/// [`Error::Data`] for a folder without pictures, or with pictures beside those of classes; [`Error::Image`] without a
/// size for the first picture of another size; [`Error::Io`]; [`Error::File`]; [`Error::Option`].
pub fn image_folder(folder: &Path, options: &DatasetOptions) -> Result<ImageFiles> {
    let found = find_pictures(folder)?;
    let (labels, classes) = classify(folder, &found)?.unzip();
    let mut fingerprint = Fingerprint::of("folder").bytes(format!("{options:?}").as_bytes());
    for Found { name, bytes } in &found {
        fingerprint = fingerprint.bytes(portable(name).as_bytes()).numbers(&[*bytes as usize]);
    }
    let listing = Listing {
        files: found.iter().map(|found| folder.join(&found.name)).collect(),
        labels,
        classes,
        attributes: None,
        fingerprint: fingerprint.finish(),
    };
    ImageFiles::new(listing, options)
}

fn find_pictures(folder: &Path) -> Result<Vec<Found>> {
    expect_folder(folder)?;
    let mut found = Vec::new();
    let looked_at = |name: &OsStr| !name.as_encoded_bytes().starts_with(b".") && name != RESOURCE_FORKS;
    let entries = WalkDir::new(folder).min_depth(1).follow_links(true).into_iter();
    for entry in entries.filter_entry(|entry| entry.depth() == 0 || looked_at(entry.file_name())) {
        let entry = match entry {
            Ok(entry) => entry,
            // A link to a folder that it is in: whatever it leads to is found anyway.
            Err(error) if error.loop_ancestor().is_some() => continue,
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_path_buf();
                // A link to nothing is an error only where a picture should be.
                if path.file_name().is_some_and(|name| !looked_at(name)) || path.is_symlink() && !is_picture(&path) {
                    continue;
                }
                return Err(Error::io(path)(error.into()));
            }
        };
        if entry.file_type().is_file() && is_picture(entry.path()) {
            let bytes = entry.metadata().map_err(|error| Error::io(entry.path())(error.into()))?.len();
            let name = entry.path().strip_prefix(folder).unwrap_or(entry.path()).to_path_buf();
            found.push(Found { name, bytes });
        }
    }
    if found.is_empty() {
        let extensions = EXTENSIONS.map(|extension| format!(".{extension}")).join(", ");
        return Err(Error::Data {
            what: folder.display().to_string(),
            index: None,
            reason: format!("Expected PNG, JPEG or WebP pictures ({extensions}) in the folder but found none"),
        });
    }
    // Paths compare name by name, names by their bytes: the same on every machine.
    found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// [`Error::Io`] for a folder that is missing, [`Error::File`] for one that is none.
pub(super) fn expect_folder(folder: &Path) -> Result<()> {
    if !std::fs::metadata(folder).map_err(Error::io(folder))?.is_dir() {
        return Err(Error::file(folder, "Expected a folder but found a file"));
    }
    Ok(())
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str);
    extension.is_some_and(|extension| EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension)))
}

/// Labels and class names, where there are sub-folders.
fn classify(folder: &Path, found: &[Found]) -> Result<Option<(Vec<u32>, Vec<String>)>> {
    let class_of = |name: &Path| match name.components().collect::<Vec<_>>()[..] {
        [Component::Normal(class), _, ..] => Some(class.to_os_string()),
        _ => None,
    };
    let classes: Vec<_> = found.iter().map(|found| class_of(&found.name)).collect();
    let Some(in_one) = classes.iter().position(Option::is_some) else { return Ok(None) };
    if let Some(beside) = classes.iter().position(Option::is_none) {
        return Err(Error::Data {
            what: folder.display().to_string(),
            index: None,
            reason: format!(
                "Expected every picture in a sub-folder that names its class, as {} is, but found {} beside them",
                portable(&found[in_one].name),
                portable(&found[beside].name)
            ),
        });
    }
    let names: Vec<_> = classes.into_iter().flatten().collect();
    let labels: BTreeMap<_, _> = names.iter().map(|name| (name.clone(), 0)).collect();
    let labels: BTreeMap<_, _> = labels.into_keys().zip(0..).collect();
    let of_images = names.iter().map(|name| labels[name]).collect();
    Ok(Some((of_images, labels.into_keys().map(|name| name.to_string_lossy().into_owned()).collect())))
}

/// A relative path as it is written everywhere.
fn portable(path: &Path) -> String {
    let names: Vec<_> = path.components().map(|name| name.as_os_str().to_string_lossy()).collect();
    names.join("/")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::ImageFormat;
    use tempfile::TempDir;

    use super::*;
    use crate::data::Dataset;
    use crate::data::decode::tests::encode;

    struct Tree(TempDir);

    impl Tree {
        /// Grey pixels of these values in these files.
        fn of(files: &[(&str, u8)]) -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            for &(name, value) in files {
                tree.put(name, &encode(ImageFormat::Png, [1, 1, 1], &[value]));
            }
            tree
        }

        fn put(&self, name: &str, bytes: &[u8]) {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }

        fn open(&self) -> Result<ImageFiles> {
            image_folder(self.0.path(), &DatasetOptions { channels: Some(1), ..DatasetOptions::default() })
        }

        fn refused(&self) -> String {
            let error = self.open().err().unwrap();
            assert_eq!(error.code(), "ERR_GLOW_DATA", "{error}");
            error.to_string()
        }
    }

    fn read(data: &ImageFiles) -> (Vec<u8>, Option<Vec<u32>>) {
        let batch = data.batch(&(0..data.len()).collect::<Vec<_>>()).unwrap();
        (batch.images.bytes().data, batch.labels)
    }

    #[test]
    fn files_come_in_the_byte_order_of_their_names() {
        let tree = Tree::of(&[("b.png", 1), ("B.PNG", 2), ("10.jpg", 3), ("9.webp", 4), ("ä.jpeg", 5), ("c.Jpeg", 6)]);
        tree.put("notes.txt", b"not a picture");
        let data = tree.open().unwrap();
        assert_eq!(read(&data), (vec![3, 4, 2, 1, 6, 5], None));
        assert_eq!(data.classes(), None);
    }

    #[test]
    fn sub_folders_name_the_classes() {
        // As ImageNet is laid out: the class folders' order, not that of their images, numbers the labels.
        let tree = Tree::of(&[
            ("n01443537/a.png", 3),
            ("n01440764/n01440764_18.png", 2),
            ("n01440764/n01440764_10.png", 1),
            ("n01443537-x/a.png", 4),
            ("n02/deep/er/z.png", 6),
            ("n02/y.png", 7),
            ("n02/deep/a.png", 5),
        ]);
        fs::create_dir(tree.0.path().join("empty")).unwrap();
        tree.put("texts/readme.txt", b"");
        let data = tree.open().unwrap();
        assert_eq!(data.classes().unwrap(), ["n01440764", "n01443537", "n01443537-x", "n02"]);
        assert_eq!(read(&data), (vec![1, 2, 3, 4, 5, 6, 7], Some(vec![0, 0, 1, 2, 3, 3, 3])));
    }

    #[test]
    fn a_thousand_classes_are_found() {
        let tree = Tree::of(&[]);
        let png = encode(ImageFormat::Png, [2, 2, 3], &[7; 12]);
        for class in 0..1000 {
            for image in 0..2 {
                tree.put(&format!("train/n{class:08}/n{class:08}_{image}.png"), &png);
            }
        }
        let data = image_folder(&tree.0.path().join("train"), &DatasetOptions::default()).unwrap();
        assert_eq!((data.len(), data.classes().unwrap().len()), (2000, 1000));
        assert_eq!(data.batch(&[1999, 2]).unwrap().labels.unwrap(), [999, 1]);
    }

    #[test]
    fn a_picture_beside_classes_is_named() {
        let tree = Tree::of(&[("cat/1.png", 1), ("stray.png", 2)]);
        let sentence = tree.refused();
        assert!(sentence.contains("as cat/1.png is, but found stray.png beside them"), "{sentence}");
    }

    #[test]
    fn hidden_files_and_resource_forks_are_not_looked_at() {
        let tree = Tree::of(&[("cat/1.png", 1), ("__MACOSX/cat/._1.png", 2), (".hidden/1.png", 3), (".x.png", 4)]);
        tree.put("cat/._1.png", b"no picture");
        let data = tree.open().unwrap();
        assert_eq!((read(&data).0, data.classes().unwrap().len()), (vec![1], 1));
    }

    #[test]
    fn a_folder_without_pictures_says_what_was_looked_for() {
        let tree = Tree::of(&[]);
        tree.put("a/readme.txt", b"");
        let sentence = tree.refused();
        assert!(
            sentence.ends_with(
                "Expected PNG, JPEG or WebP pictures (.png, .jpg, .jpeg, .webp) in the folder but found none"
            )
        );
        assert!(sentence.starts_with(&tree.0.path().display().to_string()));
        let options = DatasetOptions::default();
        assert!(matches!(image_folder(&tree.0.path().join("b"), &options), Err(Error::Io { .. })));
        assert!(matches!(image_folder(&tree.0.path().join("a/readme.txt"), &options), Err(Error::File { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_but_never_in_circles() {
        use std::os::unix::fs::symlink;
        let tree = Tree::of(&[("a/1.png", 1), ("b/2.png", 2)]);
        let elsewhere = Tree::of(&[("3.png", 3)]);
        let root = tree.0.path();
        symlink(root, root.join("a/root")).unwrap();
        symlink(root.join("a"), root.join("a/itself")).unwrap();
        symlink(elsewhere.0.path(), root.join("c")).unwrap();
        symlink(root.join("a/1.png"), root.join("c/4.png")).unwrap();
        symlink(root.join("nothing"), root.join("readme")).unwrap();
        let data = tree.open().unwrap();
        assert_eq!(read(&data), (vec![1, 2, 3, 1], Some(vec![0, 1, 2, 2])));
        symlink(root.join("nothing"), root.join("a/broken.png")).unwrap();
        let error = tree.open().err().unwrap();
        assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("broken.png"), "{error}");
    }

    #[test]
    fn names_sizes_and_options_make_the_fingerprint() {
        let tree = Tree::of(&[("a/1.png", 1), ("a/2.png", 2)]);
        let first = tree.open().unwrap().fingerprint();
        assert_eq!(first, tree.open().unwrap().fingerprint());
        let other = image_folder(tree.0.path(), &DatasetOptions::default()).unwrap().fingerprint();
        assert_ne!(first, other);
        // A copy elsewhere is the same data.
        let copy = Tree::of(&[("a/1.png", 1), ("a/2.png", 2)]);
        assert_eq!(first, copy.open().unwrap().fingerprint());
        fs::rename(tree.0.path().join("a/2.png"), tree.0.path().join("a/3.png")).unwrap();
        assert_ne!(first, tree.open().unwrap().fingerprint());
    }
}
