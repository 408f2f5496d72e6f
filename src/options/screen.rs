//! Options of the welcome screen.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;

use super::seconds;
use crate::{
    http::Reception,
    people::{self, Clock, Columns, Greeter, Lang, People},
};

/// How often to look whether the people file has changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whom screens greet, and how. Without `--people` the other options mean nothing.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Welcome screen")]
pub struct ScreenOptions {
    /// A CSV file of people who are greeted, with the columns rfsim (the card), name, title, message, photo,
    /// doors, valid_from, valid_to, priority, lang. Read again when it changes and at SIGHUP
    #[arg(long, env = "DOORCAST_PEOPLE", value_name = "FILE")]
    pub people: Option<PathBuf>,

    /// The table's column that holds the card
    #[arg(long, env = "DOORCAST_CARD_COLUMN", value_name = "COLUMN", default_value = "rfsim")]
    pub card_column: String,

    /// The table's column that holds the door
    #[arg(long, env = "DOORCAST_DOOR_COLUMN", value_name = "COLUMN", default_value = "doorno")]
    pub door_column: String,

    /// The table's column that holds the time of the swipe
    #[arg(long, env = "DOORCAST_TIME_COLUMN", value_name = "COLUMN", default_value = "optime")]
    pub time_column: String,

    /// How that time is written, as strftime has it; none: it is not looked at
    #[arg(long, env = "DOORCAST_OPTIME_FORMAT", value_name = "FORMAT", default_value = "%Y%m%d %H%M%S")]
    pub optime_format: String,

    /// The time zone of that time and of the days in the people file, such as Asia/Shanghai [default: the
    /// machine's]
    #[arg(long, env = "DOORCAST_TIMEZONE", value_name = "ZONE")]
    pub timezone: Option<String>,

    /// Swipes older than this many seconds are not greeted
    #[arg(long, env = "DOORCAST_FRESH", value_name = "SECONDS", default_value = "20", value_parser = seconds)]
    pub fresh: Duration,

    /// The language of greetings, unless the person has another one
    #[arg(long, env = "DOORCAST_LANG", value_name = "LANG", value_enum, default_value = "zh")]
    pub lang: Lang,

    /// The message for people without one of their own, in Chinese. {name}, {title}, {greeting} and {door}
    /// are filled in
    #[arg(long, env = "DOORCAST_MESSAGE_ZH", value_name = "TEXT", default_value = "欢迎光临")]
    pub message_zh: String,

    /// The same in English
    #[arg(long, env = "DOORCAST_MESSAGE_EN", value_name = "TEXT", default_value = "Welcome")]
    pub message_en: String,

    /// The folder of photos [default: photos, beside the people file]
    #[arg(long, env = "DOORCAST_PHOTO_DIR", value_name = "FOLDER")]
    pub photo_dir: Option<PathBuf>,

    /// A folder with screen.css, the site's own looks of the welcome screen, and fonts and pictures that it
    /// refers to, served at /theme/
    #[arg(long, env = "DOORCAST_THEME_DIR", value_name = "FOLDER")]
    pub theme_dir: Option<PathBuf>,

    /// Let a receptionist change the people in a browser: whoever reaches this address can
    #[arg(long, env = "DOORCAST_RECEPTION")]
    pub reception: bool,

    /// Names, separated by commas, under which browsers come to the reception, if they have a dot in them
    #[arg(long, env = "DOORCAST_RECEPTION_HOST", value_name = "NAMES", value_delimiter = ',')]
    pub reception_host: Vec<String>,
}

impl ScreenOptions {
    /// The people, read from their file; `None` without one. Blocking.
    ///
    /// # Errors
    /// What can't work, for people. A bad file is no error: it can be mended while the process runs.
    pub fn people(&self) -> Result<Option<Arc<People>>, String> {
        let Some(file) = &self.people else {
            return match self.reception {
                true => Err("--reception needs --people: it changes the people in that file".into()),
                false => Ok(None),
            };
        };
        let format = Some(&*self.optime_format).filter(|format| *format != "none");
        let beside = || file.parent().unwrap_or(Path::new("")).join("photos");
        let columns = Columns {
            card: self.card_column.as_str().into(),
            door: self.door_column.as_str().into(),
            time: self.time_column.as_str().into(),
        };
        let greeter = Greeter {
            columns,
            clock: Clock::new(self.timezone.as_deref(), format)?,
            fresh: self.fresh,
            lang: self.lang,
            messages: [self.message_zh.as_str().into(), self.message_en.as_str().into()],
        };
        Ok(Some(Arc::new(People::new(people::Settings {
            file: file.clone(),
            photo_dir: self.photo_dir.clone().unwrap_or_else(beside),
            look_every: LOOK_EVERY,
            greeter,
            remember_unknown: self.reception,
        }))))
    }

    /// How the reception is open, if it is, to whoever reaches `listen`.
    ///
    /// # Errors
    /// It would be open to other machines, without leave.
    pub fn reception(&self, listen: SocketAddr, allow_anonymous: bool) -> Result<Option<Reception>, String> {
        if self.reception && !listen.ip().is_loopback() && !allow_anonymous {
            return Err(format!(
                "--reception on {listen} lets anybody there change who is greeted: listen on 127.0.0.1 behind a \
                 proxy that asks who is there, or say --allow-anonymous"
            ));
        }
        Ok(self.reception.then(|| Reception { hosts: self.reception_host.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::options::RunOptions;

    fn options(change: impl FnOnce(&mut ScreenOptions)) -> ScreenOptions {
        let mut options = RunOptions::new("mysql://a@b/c", "t", Path::new("x")).unwrap().screen;
        change(&mut options);
        options
    }

    #[test]
    fn without_people_nobody_is_greeted() {
        assert!(options(|_| {}).people().unwrap().is_none());
        assert!(options(|options| options.reception = true).people().unwrap_err().contains("--people"));
    }

    #[test]
    fn photos_are_beside_the_people() {
        let people = options(|options| options.people = Some("/nowhere/people.csv".into())).people();
        assert_eq!(people.unwrap().unwrap().photo_dir(), Path::new("/nowhere/photos"));
    }

    #[test]
    fn what_tells_no_time_is_refused() {
        let with = |zone: &str, format: &str| {
            let options = options(|options| {
                options.people = Some("/nowhere/people.csv".into());
                options.timezone = Some(zone.into());
                options.optime_format = format.into();
            });
            options.people().map(drop)
        };
        assert_eq!(with("Asia/Shanghai", "none"), Ok(()));
        assert!(with("Asia/Nowhere", "none").unwrap_err().contains("--timezone"));
        assert!(with("Asia/Shanghai", "%Y").unwrap_err().contains("--optime-format"));
    }

    #[test]
    fn a_reception_is_not_open_to_others_without_leave() {
        let (here, anywhere) = ("127.0.0.1:80".parse().unwrap(), "0.0.0.0:80".parse().unwrap());
        let open = options(|options| options.reception = true);
        assert!(open.reception(here, false).unwrap().is_some());
        assert!(open.reception(anywhere, false).unwrap_err().contains("--allow-anonymous"));
        assert!(open.reception(anywhere, true).unwrap().is_some());
        assert!(options(|_| {}).reception(anywhere, false).unwrap().is_none());
    }
}
