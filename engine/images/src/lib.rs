//! images as Docker means them: pull, load, save, import, tag, delete
