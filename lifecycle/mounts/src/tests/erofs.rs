//! EROFS images, mounted for real. The image is written here by the kernel's description of the format
//! (Documentation/filesystems/erofs.rst, fs/erofs/erofs_fs.h), so that no program has to be installed.

use super::*;

const BLOCK: usize = 4096;
const MAGIC: u32 = 0xe0f5_e1e2;
/// Inodes have 32 bytes each, numbered from the beginning of the second block.
const ROOT: u16 = 2;
const FILE: u16 = 4;

/// An image that has `text` as the file `hello`, uncompressed.
fn image(text: &str) -> Vec<u8> {
    let mut image = vec![0; 4 * BLOCK];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    let superblock = 1024;
    put(superblock, &MAGIC.to_le_bytes());
    put(superblock + 12, &[12]); // log2 of the block's size
    put(superblock + 14, &ROOT.to_le_bytes());
    put(superblock + 16, &2u64.to_le_bytes()); // inodes
    put(superblock + 36, &4u32.to_le_bytes()); // blocks
    put(superblock + 40, &1u32.to_le_bytes()); // the block with the inodes
    let directory = {
        let names = [(".", ROOT, 2u8), ("..", ROOT, 2), ("hello", FILE, 1)];
        let (mut entries, mut text) = (Vec::<u8>::new(), Vec::<u8>::new());
        for (name, inode, kind) in names {
            entries.extend(u64::from(inode).to_le_bytes());
            entries.extend(u16::try_from(names.len() * 12 + text.len()).unwrap().to_le_bytes());
            entries.extend([kind, 0]);
            text.extend(name.as_bytes());
        }
        entries.extend(text);
        entries
    };
    for (inode, mode, links, data, block) in
        [(ROOT, 0o040_755u16, 2u16, directory.as_slice(), 2u32), (FILE, 0o100_644, 1, text.as_bytes(), 3)]
    {
        let at = BLOCK + usize::from(inode) * 32;
        put(at + 4, &mode.to_le_bytes());
        put(at + 6, &links.to_le_bytes());
        put(at + 8, &u32::try_from(data.len()).unwrap().to_le_bytes());
        put(at + 16, &block.to_le_bytes());
        put(at + 20, &u32::from(inode).to_le_bytes());
        put(block as usize * BLOCK, data);
    }
    image
}

fn kernel_has_it() -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    known.lines().any(|line| line.split_whitespace().last() == Some("erofs"))
}

#[test]
fn root_images_are_layers_of_an_overlay() {
    let p = Place::new();
    let (one, two) = (p.path("one.erofs"), p.path("two.erofs"));
    fs::write(&one, image("below")).unwrap();
    fs::write(&two, image("above")).unwrap();
    let mut wanted = request(vec![
        mount("erofs", &one.display().to_string(), &["ro"]),
        mount("erofs", &two.display().to_string(), &[]),
        mount("format/overlay", "overlay", &["lowerdir={{ overlay 1 0 }}"]),
    ]);
    wanted.temporary = true;
    let activated = p.mounts.activate(&scope(), "a", wanted);
    if !kernel_has_it() {
        let error = activated.expect_err("the kernel has no EROFS").to_string();
        assert!(error.contains("erofs"), "{error}");
        assert_eq!((count_below(p.dir.path()), devices_below(p.dir.path())), (0, 0));
        return;
    }
    let record = activated.unwrap();
    let points: Vec<_> = record.active.iter().map(|one| Path::new(&one.point)).collect();
    let texts: Vec<_> = points.iter().map(|p| fs::read_to_string(p.join("hello")).unwrap()).collect();
    assert_eq!(texts, ["below", "above", "above"]);
    // an image cannot be written, whether that was asked for or not
    for point in &points[..2] {
        let refused = fs::write(point.join("more"), "").expect_err("it is read-only");
        assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::ROFS.raw_os_error()), "{refused}");
    }
    p.mounts.deactivate(&scope(), "a").unwrap();
    assert_eq!((count_below(p.dir.path()), devices_below(p.dir.path())), (0, 0));
}

#[test]
fn root_what_is_no_image_and_dm_verity_are_refused_and_leave_nothing() {
    let p = Place::new();
    let (broken, whole) = (p.path("broken.erofs"), p.path("whole.erofs"));
    fs::write(&broken, vec![0; 4 * BLOCK]).unwrap();
    fs::write(&whole, image("text")).unwrap();
    let (broken, whole) = (broken.display().to_string(), whole.display().to_string());
    let missing = p.path("missing.erofs").display().to_string();
    let verity = "X-containerd.dmverity=/no/such/hashes";
    for (wrong, words) in [
        (mount("erofs", &broken, &[]), "erofs"),
        (mount("erofs", &missing, &[]), "erofs"),
        (mount("erofs", &whole, &[verity]), "dm-verity"),
    ] {
        let mut wanted = request(vec![mount("tmpfs", "tmpfs", &[]), wrong]);
        wanted.temporary = true;
        let error = p.mounts.activate(&scope(), "a", wanted).expect_err("it fails");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!((count_below(p.dir.path()), devices_below(p.dir.path())), (0, 0), "{error}");
        assert!(p.mounts.list(&scope(), &[]).unwrap().is_empty());
    }
}
