//! The made-up people who are greeted in the demo. Knows no server.

/// What stands in their file beside the card: name, title, message, doors, priority, lang.
const PEOPLE: [[&str; 6]; 6] = [
    ["陈雨桐", "首席建筑师", "您的会议在三楼听涛厅。", "", "0", "zh"],
    ["Amelia Okonkwo", "Chief Scientist", "Your host is on the way down.", "", "0", "en"],
    ["王建国", "客座教授", "", "", "0", "zh"],
    ["Jonas Lindqvist", "Visiting Fellow", "", "", "0", "en"],
    ["欧阳静", "董事长", "{greeting}，欢迎回来。", "", "5", "zh"],
    ["林小满", "今天入职", "欢迎加入！", "", "0", "zh"],
];

/// The file, for the first of these cards, and who has which.
pub(super) fn people(cards: &[String]) -> (String, Vec<(String, &'static str)>) {
    let mut file = String::from("rfsim,name,title,message,doors,priority,lang\n");
    let mut named = Vec::new();
    for (card, [name, title, message, doors, priority, lang]) in cards.iter().zip(PEOPLE) {
        file += &format!("{card},{name},{title},{message},{doors},{priority},{lang}\n");
        named.push((card.clone(), name));
    }
    (file, named)
}
