//! The reception's page, as somebody uses it who has no mouse: what they do there is on a screen at once.

use std::{io::Cursor, path::PathBuf};

use serde_json::{Value, json};

use super::{Hall, Page};
use crate::{
    browser::{Browser, ENTER, ESCAPE, TAB},
    servers,
};

const CARD: &str = "00FFEEDDCCBBAA99";

/// What has the focus: its id, or what it is for.
const FOCUSED: &str = "(function (node) {
    return node === document.body ? 'nothing' : node.id || node.getAttribute('aria-label') || node.textContent;
}(document.activeElement))";

struct Desk {
    hall: Hall,
    screen: Page,
    reception: Browser,
}

impl Desk {
    async fn open() -> Desk {
        let hall = Hall::open(servers::kinds()[0], &["--reception"]).await;
        let screen = hall.screen().await;
        let reception = Browser::start().await;
        reception.open(&hall.scene.doorcast.url("/reception")).await;
        reception.until("document.querySelectorAll('#list button').length === 27").await;
        Desk { hall, screen, reception }
    }

    /// A swipe of the card that is nobody's, once the page has it.
    async fn swipe_unknown(&mut self) {
        self.hall.swipe(CARD).await;
        self.reception.until("document.querySelectorAll('#unknown button').length === 1").await;
    }

    /// Presses Tab until the focus is there.
    async fn tab_to(&self, wanted: &str) {
        let mut passed = Vec::new();
        while self.focused().await != wanted {
            passed.push(self.focused().await);
            assert!(passed.len() < 100, "{wanted} is not reached by {passed:?}");
            self.reception.press(&TAB.to_string()).await;
        }
    }

    async fn focused(&self) -> Value {
        self.reception.eval(FOCUSED).await
    }

    async fn saved(&self) {
        self.reception.until("document.getElementById('editor').hidden").await;
    }

    /// Waits until the page has had the answers to what it asks for a moment after each change.
    async fn later(&self) {
        let ask = "setTimeout(function () {
            var request = new XMLHttpRequest();
            request.onload = function () { document.body.setAttribute('data-later', 'yes'); };
            request.open('GET', 'readyz');
            request.send();
        }, 600), document.body.removeAttribute('data-later')";
        self.reception.eval(ask).await;
        self.reception.until("document.body.getAttribute('data-later')").await;
    }

    fn file(&self, name: &str) -> PathBuf {
        self.hall.folder.path().join(name)
    }

    fn people(&self) -> String {
        std::fs::read_to_string(self.file("people.csv")).unwrap()
    }

    /// The lines of the record of edits.
    fn record(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.file("people.csv.audit.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

// A card that was swiped is there without its number; with the keyboard alone it is welcomed, then edited,
// and each time the next swipe says so.
#[tokio::test]
async fn a_card_is_welcomed_by_keyboard() {
    let mut desk = Desk::open().await;
    desk.swipe_unknown().await;
    let text = desk.reception.eval("document.documentElement.outerHTML").await;
    assert!(text.as_str().unwrap().contains("00FF…AA99") && !text.as_str().unwrap().contains(CARD));

    // In the order of reading.
    let mut order = Vec::new();
    for _ in 0..7 {
        desk.reception.press(&TAB.to_string()).await;
        order.push(desk.focused().await);
    }
    let welcome = "Welcome this card: 00FF…AA99";
    assert_eq!(
        json!(order),
        json!(["Skip to people", welcome, "test-door", "Show", "search", "add", "Edit: boss"])
    );
    desk.tab_to(welcome).await;
    desk.reception.press(&ENTER.to_string()).await;
    assert_eq!(desk.focused().await, "name");
    desk.reception.press(&format!("李雷{TAB}教授{TAB}{{name}}，{{greeting}}")).await;
    desk.reception.until("/^李雷，.+好$/.test(document.getElementById('sees-message').textContent)").await;
    let preview = desk.reception.eval("document.getElementById('preview').getAttribute('aria-label')").await;
    assert!(preview.as_str().unwrap().contains("李雷, 教授, 李雷，"), "{preview}");
    desk.tab_to("Save").await;
    desk.reception.press(&ENTER.to_string()).await;
    desk.saved().await;
    assert_eq!(desk.reception.eval("document.getElementById('said').textContent").await, "Saved: 李雷");
    // The button that was pressed is gone with its card: the focus is not lost with it.
    desk.reception.until("document.querySelectorAll('#unknown button').length === 0").await;
    assert_eq!(desk.focused().await, "unknown");
    assert!(desk.people().contains(&format!("{CARD},李雷,教授")), "{}", desk.people());

    desk.hall.swipe(CARD).await;
    desk.screen.greets("李雷").await;
    let message = "document.getElementById('message').textContent.indexOf('李雷，')";
    assert_eq!(desk.screen.browser.eval(message).await, 0);

    // Days: from tomorrow on is not today.
    desk.tab_to("Edit: 李雷").await;
    desk.reception.press(&ENTER.to_string()).await;
    desk.tab_to("valid_from").await;
    desk.reception.press(&format!("01012099{ENTER}")).await;
    desk.saved().await;
    desk.reception.until("(document.querySelector('#list .off bdi') || {}).textContent === '李雷'").await;
    assert_eq!(desk.focused().await, "Edit: 李雷");
    assert!(desk.people().contains("2099-01-01"), "{}", desk.people());
    desk.hall.swipe(CARD).await;
    desk.hall.swipe("A").await;
    desk.screen.greets("A").await;
    assert_eq!(desk.screen.names().await, json!(["李雷", "A"]));

    let record = desk.record();
    assert_eq!(record.len(), 2);
    assert_eq!((&record[0]["what"], &record[0]["card"]), (&json!("add"), &json!("00FF…AA99")));
    assert_eq!(record[1]["changed"], json!({"valid_from": ["", "2099-01-01"]}));
}

// A form that is wrong says where, keeps what was typed, and leaves the file alone; Escape leaves it, and
// the focus goes where it came from.
#[tokio::test]
async fn a_form_that_is_wrong_says_where() {
    let desk = Desk::open().await;
    let before = desk.people();
    desk.tab_to("add").await;
    desk.reception.press(&ENTER.to_string()).await;
    assert_eq!(desk.focused().await, "card");
    desk.reception.press(&format!("A{TAB}Twice{ENTER}")).await;
    desk.reception.until("document.getElementById('wrong').textContent !== ''").await;
    let said = desk.reception.eval("document.getElementById('wrong').textContent").await;
    assert_eq!(desk.reception.eval("document.getElementById('name').value").await, "Twice", "{said}");
    // Tab stays within, both ways.
    let inside = "document.getElementById('panel').contains(document.activeElement)";
    desk.tab_to("cancel").await;
    for _ in 0..2 {
        desk.reception.press(&TAB.to_string()).await;
        assert_eq!(desk.reception.eval(inside).await, true);
    }
    for _ in 0..4 {
        desk.reception.press_with_shift(TAB).await;
        assert_eq!(desk.reception.eval(inside).await, true);
    }
    desk.reception.press(&ESCAPE.to_string()).await;
    desk.saved().await;
    assert_eq!(desk.focused().await, "add");
    assert_eq!(desk.people(), before);
}

// Who is deleted, at the second press, is gone from the list, the file and the screen.
#[tokio::test]
async fn a_person_is_deleted_by_keyboard() {
    let mut desk = Desk::open().await;
    desk.tab_to("Edit: A").await;
    desk.reception.press(&ENTER.to_string()).await;
    desk.tab_to("delete").await;
    desk.reception.press(&ENTER.to_string()).await;
    desk.reception.until("/again/.test(document.getElementById('delete').textContent)").await;
    assert!(desk.people().contains("A,A,"));
    desk.reception.press(&ENTER.to_string()).await;
    desk.saved().await;
    desk.reception.until("document.querySelectorAll('#list button').length === 26").await;
    assert_eq!(desk.focused().await, "list");
    assert_eq!(desk.reception.eval("document.getElementById('said').textContent").await, "Deleted: A");
    assert!(!desk.people().contains("A,A,"), "{}", desk.people());
    assert_eq!(desk.record()[0]["what"], "delete");
    desk.hall.swipe("A").await;
    desk.hall.swipe("B").await;
    desk.screen.greets("B").await;
    assert_eq!(desk.screen.names().await, json!(["B"]));
}

// A photo is on the screen with its person; what is none, or too large, is refused in words.
#[tokio::test]
async fn a_photo_is_taken_or_refused() {
    let mut desk = Desk::open().await;
    desk.tab_to("Edit: A").await;
    desk.reception.press(&ENTER.to_string()).await;
    let wrong = "document.getElementById('wrong').textContent";
    let mut png = Cursor::new(Vec::new());
    let picture = image::RgbImage::from_pixel(60, 80, image::Rgb([9, 99, 199]));
    picture.write_to(&mut png, image::ImageFormat::Png).unwrap();
    for (name, bytes, word) in [
        ("notes.txt", b"no photo".to_vec(), "JPEG"),
        ("broken.png", b"\x89PNG\r\n\x1a\nno photo".to_vec(), "photo"),
        ("large.jpg", vec![0; 2 * 1024 * 1024 + 1], "2 MB"),
    ] {
        desk.reception.eval("document.getElementById('wrong').textContent = ''").await;
        std::fs::write(desk.file(name), bytes).unwrap();
        desk.reception.choose("#file", &desk.file(name)).await;
        let says = format!("{wrong}.indexOf('{word}') >= 0");
        desk.reception.until(&says).await;
        desk.later().await;
        assert_eq!(desk.reception.eval(&says).await, true, "{name}: it stays");
        assert_eq!(desk.reception.eval("document.getElementById('sees-photo').hidden").await, true, "{name}");
    }
    std::fs::write(desk.file("face.png"), png.into_inner()).unwrap();
    desk.reception.choose("#file", &desk.file("face.png")).await;
    desk.reception.until("!document.getElementById('sees-photo').hidden").await;
    assert_eq!(desk.reception.eval(wrong).await, "");
    desk.tab_to("Save").await;
    desk.reception.press(&ENTER.to_string()).await;
    desk.saved().await;
    desk.hall.swipe("A").await;
    desk.screen.greets("A").await;
    desk.screen.until("document.getElementById('photo').className === 'there'").await;
    assert_eq!(desk.screen.browser.eval("document.getElementById('photo').naturalHeight").await, 80);
    assert_eq!(desk.record().len(), 1);
}

// The screens that are there are listed, and a test is shown on those of its door.
#[tokio::test]
async fn a_test_is_shown_on_a_screen_that_is_open() {
    let desk = Desk::open().await;
    desk.reception.until("/lobby.*door 1/.test(document.getElementById('screens').textContent)").await;
    desk.tab_to("test-door").await;
    desk.reception.press(&format!("2{ENTER}")).await;
    desk.reception.until("document.getElementById('said').textContent === 'Shown on screens: 0'").await;
    desk.reception.eval("document.getElementById('test-door').select()").await;
    desk.reception.press(&format!("1{ENTER}")).await;
    desk.reception.until("document.getElementById('said').textContent === 'Shown on screens: 1'").await;
    desk.screen.greets("测试").await;
}

// Whatever can be used has a role and a name, in the lists and in the form; what changes by itself is told.
#[tokio::test]
async fn everything_in_the_reception_has_a_name() {
    let mut desk = Desk::open().await;
    desk.swipe_unknown().await;
    everything_has_a_name(&desk.reception, 31).await;
    desk.tab_to("add").await;
    desk.reception.press(&ENTER.to_string()).await;
    everything_has_a_name(&desk.reception, 13).await;
    for id in ["said", "count", "wrong", "problems"] {
        let role = format!("document.getElementById('{id}').getAttribute('role')");
        let role = desk.reception.eval(&role).await;
        assert!(role == "status" || role == "alert", "{id}: {role}");
    }
}

/// By the tree that a screen reader gets.
async fn everything_has_a_name(browser: &Browser, at_least: usize) {
    let tree = browser.cdp("Accessibility.getFullAXTree", json!({})).await;
    let mut usable = Vec::new();
    for node in tree["nodes"].as_array().unwrap().iter().filter(|node| node["ignored"] == false) {
        let (role, name) = (&node["role"]["value"], node["name"]["value"].as_str().unwrap_or_default());
        let is_usable =
            ["button", "textbox", "searchbox", "combobox", "spinbutton", "Date", "dialog", "link"];
        if is_usable.iter().any(|one| role == one) {
            assert!(!name.is_empty(), "{node}");
            usable.push(format!("{role} {name}"));
        }
    }
    assert!(usable.len() >= at_least, "{} {usable:?}", usable.len());
}
