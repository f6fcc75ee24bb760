//! The names of machines in `~/.ssh/config` and what it includes.
//!
//! Only names that a `Host` line gives in full count; patterns and what they
//! exclude describe machines, they name none. Nothing is decided here about what
//! a name means: OpenSSH says that ([`super::settings`]). So of the format only
//! `Host`, `Match` and `Include` are read, with OpenSSH's rules for words
//! (ssh_config(5); `process_config_line_depth` and `argv_split` of its sources).

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::pattern;

/// Files in files, as OpenSSH limits them (`READCONF_MAX_DEPTH`).
const MAX_DEPTH: usize = 16;
/// Largest file that is read, in bytes; one with thousands of hosts has a few hundred KiB.
const MAX_FILE: u64 = 4 << 20;
/// Files that are read in all.
const MAX_FILES: usize = 1000;
/// Names that are found in all.
pub(super) const MAX_ALIASES: usize = 5000;
/// Longest name, in bytes: a DNS name has 253.
const MAX_NAME: usize = 253;

/// The name of a machine, and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The name, as `ssh` takes it. It is no option and holds nothing that a shell would act on.
    pub name: String,
    /// The file that names it first.
    pub file: PathBuf,
    /// The line there, from 1.
    pub line: usize,
}

/// What the files hold.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// In the order in which they are found; each once.
    pub aliases: Vec<Alias>,
    /// Files that were read, and folders in which files were looked for.
    pub read: Vec<PathBuf>,
    /// Files that could not be read, but for those that are not there.
    pub unread: Vec<(PathBuf, io::Error)>,
}

/// Where `Include` looks.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// What `~` and `%d` stand for.
    pub home: Option<PathBuf>,
    /// Where relative paths begin: `~/.ssh`, or `/etc/ssh` for the system's file.
    pub base: PathBuf,
}

/// Reads the file and what it includes. A file that is not there names nothing.
pub(super) fn read(config: &Path, places: &Places) -> Names {
    let mut reader = Reader { places, names: Names::default(), files: 0 };
    reader.file(config, &[], 0);
    reader.names
}

/// What an `Include` stands below: nothing in the file counts for names that do not match it.
#[derive(Clone)]
enum Block {
    /// `Host` with these patterns.
    Host(Vec<String>),
    /// `Match`: what it asks for can't be said without running it, so every name may be meant.
    Match,
}

impl Block {
    fn may_mean(&self, name: &str) -> bool {
        match self {
            Self::Host(patterns) => pattern::list_matches(patterns.iter().map(String::as_str), name),
            Self::Match => true,
        }
    }
}

struct Reader<'a> {
    places: &'a Places,
    names: Names,
    files: usize,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, around: &[Block], depth: usize) {
        self.files += 1;
        if depth > MAX_DEPTH || self.files > MAX_FILES {
            return;
        }
        self.names.read.push(path.to_owned());
        let text = match text(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.names.unread.push((path.to_owned(), error)),
        };
        let mut block = None;
        for (number, line) in text.lines().enumerate() {
            let Some((keyword, words)) = split(line) else { continue };
            match keyword.to_ascii_lowercase().as_str() {
                "host" => {
                    self.host(&words, around, path, number + 1);
                    block = Some(Block::Host(words));
                }
                "match" => block = Some(Block::Match),
                "include" => {
                    let around: Vec<Block> = around.iter().chain(&block).cloned().collect();
                    for word in &words {
                        for file in self.included(word) {
                            self.file(&file, &around, depth + 1);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn host(&mut self, words: &[String], around: &[Block], file: &Path, line: usize) {
        for name in words.iter().filter(|word| is_name(word)) {
            // `Host a !a` describes nothing.
            let is_meant = pattern::list_matches(words.iter().map(String::as_str), name)
                && around.iter().all(|block| block.may_mean(name));
            let aliases = &mut self.names.aliases;
            if is_meant && aliases.len() < MAX_ALIASES && !aliases.iter().any(|known| known.name == *name) {
                aliases.push(Alias { name: name.clone(), file: file.to_owned(), line });
            }
        }
    }

    /// The files that an `Include` names, sorted as OpenSSH sorts them.
    fn included(&mut self, word: &str) -> Vec<PathBuf> {
        let Some(path) = self.expand(word) else { return Vec::new() };
        let Some(path) = path.to_str() else { return Vec::new() };
        // A new file in it changes what is included.
        let before_any = path.split(['*', '?', '[']).next().unwrap_or_default();
        if before_any.len() < path.len()
            && let Some((folder, _)) = before_any.rsplit_once('/')
        {
            self.names.read.push(PathBuf::from(folder));
        }
        let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::default() };
        glob::glob_with(path, options).into_iter().flatten().filter_map(Result::ok).take(MAX_FILES).collect()
    }

    /// The path that an `Include` means. `None` where it depends on the connection that would be made.
    fn expand(&self, word: &str) -> Option<PathBuf> {
        let word = match word.strip_prefix("~/").or_else(|| word.strip_prefix("%d/")) {
            Some(rest) => self.places.home.as_ref()?.join(rest).to_str()?.to_owned(),
            None => word.to_owned(),
        };
        if word.starts_with('~') || word.contains(['%', '$']) {
            return None;
        }
        Some(self.places.base.join(word))
    }
}

/// What the file holds, as text as far as it is.
fn text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    // Of a pipe or a device there may be no end, and no beginning.
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {MAX_FILE} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether the word names a machine: no pattern, no option, and nothing in it that `ssh` refuses in a name or reads as
/// something else (`valid_hostname` of OpenSSH 9.6; `user@` and `ssh://`).
pub(super) fn is_name(word: &str) -> bool {
    let is_plain = |c: char| c.is_alphanumeric() || (c.is_ascii_punctuation() && !"'`\"$\\;&<>|(){}@/#,!".contains(c));
    !pattern::is_pattern(word)
        && !word.is_empty()
        && word.len() <= MAX_NAME
        && !word.starts_with('-')
        && word.chars().all(is_plain)
}

/// The keyword of a line and the words after it. `None` for a line that says nothing, or that OpenSSH would refuse.
fn split(line: &str) -> Option<(&str, Vec<String>)> {
    let line = line.trim_matches([' ', '\t', '\r', '\x0c']);
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find([' ', '\t', '=', '"']).unwrap_or(line.len());
    let (keyword, rest) = line.split_at(end);
    let rest = rest.trim_start_matches([' ', '\t']);
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    Some((keyword, words(rest)?))
}

/// Words with OpenSSH's rules: quotes of both kinds, a backslash before quotes, blanks and itself, a comment at the end.
/// `None` where a quote is left open.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
        if matches!(rest.peek(), None | Some('#')) {
            return Some(words);
        }
        let mut word = String::new();
        let mut quote = None;
        loop {
            match rest.next() {
                None if quote.is_some() => return None,
                None => break,
                Some('\\') => {
                    match rest.next_if(|&c| matches!(c, '\'' | '"' | '\\') || (c == ' ' && quote.is_none())) {
                        Some(c) => word.push(c),
                        None => word.push('\\'),
                    }
                }
                Some(' ' | '\t') if quote.is_none() => break,
                Some(c) if quote == Some(c) => quote = None,
                Some(c @ ('\'' | '"')) if quote.is_none() => quote = Some(c),
                Some(c) => word.push(c),
            }
        }
        words.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(config: &Path) -> Vec<String> {
        let home = config.parent().and_then(Path::parent).map(Path::to_owned);
        let places = Places { home, base: config.parent().unwrap().to_owned() };
        read(config, &places).aliases.into_iter().map(|alias| alias.name).collect()
    }

    fn home(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = home.path().join(".ssh").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let config = home.path().join(".ssh/config");
        (home, config)
    }

    #[test]
    fn only_names_given_in_full_count_each_where_it_stands_first() {
        let (_home, config) = home(&[(
            "config",
            "# Host no\nHost devbox build *.lab !old\n  HostName 10.0.0.1\nhost\t=  \"quoted\" # Host no\n\
             HOST=equals devbox\nMatch host x exec \"touch /tmp/no\"\nHost gone !gone\n  Host indented\r\nHost *\n",
        )]);
        assert_eq!(names(&config), ["devbox", "build", "quoted", "equals", "indented"]);
        let places = Places { home: None, base: PathBuf::new() };
        let equals = read(&config, &places).aliases.into_iter().find(|alias| alias.name == "equals").unwrap();
        assert_eq!((equals.file, equals.line), (config, 5));
    }

    #[test]
    fn what_could_be_an_option_a_command_or_an_address_is_no_name() {
        let (_home, config) = home(&[(
            "config",
            "Host -oProxyCommand=x\nHost a$(x) b`x` \"c d\" e;x me@box ssh://box box/x a,b \"\"\nHost fe80::1%eth0 ünï a_b.c-d\n",
        )]);
        assert_eq!(names(&config), ["fe80::1%eth0", "ünï", "a_b.c-d"]);
        let long = format!("Host {} ok", "x".repeat(254));
        let (_home, config) = home_of(&long);
        assert_eq!(names(&config), ["ok"]);
    }

    fn home_of(config: &str) -> (tempfile::TempDir, PathBuf) {
        home(&[("config", config)])
    }

    #[test]
    fn includes_are_followed_in_order_with_globs_and_home() {
        let (_home, config) = home(&[
            ("config", "Host first\nInclude conf.d/*.conf ~/.ssh/other %d/.ssh/third ~root/x $HOME/x\nHost last\n"),
            ("conf.d/b.conf", "Host b\n"),
            ("conf.d/a.conf", "Host a\n"),
            ("conf.d/.hidden.conf", "Host hidden\n"),
            ("other", "Host other\n"),
            ("third", "Host third\n"),
        ]);
        // Below `Host first` an included file means that name only.
        assert_eq!(names(&config), ["first", "last"]);
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.replace("Host first", "Host first *")).unwrap();
        assert_eq!(names(&config), ["first", "a", "b", "other", "third", "last"]);
    }

    #[test]
    fn an_include_below_a_host_counts_for_the_names_that_it_means() {
        let (_home, config) = home(&[
            ("config", "Host *.lab\n  Include lab\nMatch user me\n  Include any\n"),
            ("lab", "Host one.lab two\nInclude deeper\n"),
            ("deeper", "Host three.lab\nHost one.lab\n"),
            ("any", "Host any\n"),
        ]);
        assert_eq!(names(&config), ["one.lab", "any"]);
    }

    #[test]
    fn a_file_that_includes_itself_ends() {
        let (_home, config) = home(&[("config", "Include config\nInclude config\nHost one\n")]);
        assert_eq!(names(&config), ["one"]);
    }

    #[test]
    fn what_can_not_be_read_is_told_and_what_is_not_there_is_not() {
        let (home, config) = home(&[("config", "Include folder missing\nHost one\n"), ("folder/x", "")]);
        let places = Places { home: None, base: home.path().join(".ssh") };
        let names = read(&config, &places);
        assert_eq!(names.aliases.len(), 1);
        assert_eq!(
            names.unread.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>(),
            [home.path().join(".ssh/folder")]
        );
        assert!(read(&home.path().join("none"), &places).aliases.is_empty());
    }

    #[test]
    fn words_are_split_as_in_openssh() {
        let split = |text| words(text).unwrap();
        assert_eq!(
            split(r#" a  "b c" d\ e 'f"g' h\"i "j\"k" l#m # n"#),
            ["a", "b c", "d e", "f\"g", "h\"i", "j\"k", "l#m"]
        );
        assert_eq!(split(r"a\b"), [r"a\b"]);
        assert_eq!(words("\"open"), None);
        assert!(split("").is_empty());
    }
}
