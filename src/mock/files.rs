//! `/v1/files`: uploads, kept in memory up to a bound; the oldest make room.

use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::{Value, json};

use super::ask::{Ask, Outcome};
use super::form::Form;
use super::reply::{Reply, list};

/// The most files, and the most bytes in them all.
const FILES: usize = 256;
/// The most bytes in one file, and in all of them together.
pub const BYTES: usize = 64 * 1024 * 1024;

/// The files there are, oldest first.
#[derive(Debug, Default)]
pub struct Files(VecDeque<File>);

#[derive(Debug)]
struct File {
    card: Value,
    content: Bytes,
}

impl Files {
    /// Takes an upload.
    pub fn upload(&mut self, ask: &Ask, form: &mut Form) -> Outcome {
        let purpose = form.field("purpose").unwrap_or("user_data").to_owned();
        let file = form.take_file().ok_or_else(|| Reply::missing("file"))?;
        let card = json!({"id": ask.id("file-"), "object": "file", "bytes": file.size,
            "created_at": ask.now,
            "filename": file.name, "purpose": purpose, "status": "processed", "expires_at": null});
        self.0.push_back(File { card: card.clone(), content: file.content.into() });
        while self.0.len() > FILES || self.bytes() > BYTES {
            self.0.pop_front();
        }
        Ok(Reply::json(&card))
    }

    /// Lists them, newest first.
    pub fn all(&self) -> Reply {
        Reply::json(&list(&self.0.iter().rev().map(|file| file.card.clone()).collect::<Vec<_>>()))
    }

    /// Shows one.
    pub fn one(&self, id: &str) -> Outcome {
        self.find(id).map(|(_, file)| Reply::json(&file.card))
    }

    /// The content of one.
    pub fn content(&self, id: &str) -> Outcome {
        self.find(id)
            .map(|(_, file)| Reply::whole("application/octet-stream", file.content.clone()))
    }

    /// Deletes one.
    pub fn delete(&mut self, id: &str) -> Outcome {
        let (index, _) = self.find(id)?;
        self.0.remove(index);
        Ok(Reply::json(&json!({"id": id, "object": "file", "deleted": true})))
    }

    fn find(&self, id: &str) -> Result<(usize, &File), Reply> {
        let is_it =
            |(_, file): &(usize, &File)| file.card.get("id").is_some_and(|known| known == id);
        self.0.iter().enumerate().find(is_it).ok_or_else(|| Reply::no_such("File object", id))
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|file| file.content.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::ask::Serial;
    use super::super::ask::tests::ask;
    use super::super::reply::Body;
    use super::*;

    fn upload(files: &mut Files, call: u32) -> String {
        let mut form = Form::new("multipart/form-data; boundary=b", BYTES).unwrap();
        let head = "content-disposition: form-data; name=\"file\"; filename=\"f\"";
        form.push(format!("--b\r\n{head}\r\n\r\nhello\r\n--b--").as_bytes()).unwrap();
        let ask = Ask { serial: Serial { mock: 1, call }, ..ask(Value::Null) };
        files.upload(&ask, &mut form).unwrap().value()["id"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_file_lives_from_upload_to_deletion() {
        let mut files = Files::default();
        let id = upload(&mut files, 1);
        assert_eq!(files.one(&id).unwrap().value()["bytes"], 5);
        assert!(matches!(files.content(&id).unwrap().body, Body::Whole(body) if body == "hello"));
        assert_eq!(files.all().value()["data"][0]["id"], id);
        assert_eq!(files.delete(&id).unwrap().value()["deleted"], true);
        assert_eq!(files.one(&id).unwrap_err().status, 404);
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut files = Files::default();
        let first = upload(&mut files, 0);
        (1..=256).for_each(|call| drop(upload(&mut files, call)));
        assert_eq!(files.0.len(), FILES);
        assert!(files.one(&first).is_err());
    }
}
