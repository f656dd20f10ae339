//! The `.env` file beside the configuration: `KEY=VALUE` lines.

/// Reads a `.env` file, or says which line is not one. Its text is not repeated: it holds secrets.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut variables = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let variable = assignment(line);
        let number = index + 1;
        variables.push(variable.ok_or_else(|| format!("line {number} is not KEY=VALUE"))?);
    }
    Ok(variables)
}

fn assignment(line: &str) -> Option<(String, String)> {
    let line = line.strip_prefix("export ").map_or(line, str::trim_start);
    let (name, value) = line.split_once('=')?;
    let name = name.trim_end();
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (letters && !name.is_empty()).then_some(())?;
    Some((name.to_owned(), unquote(value.trim_start())?))
}

fn unquote(value: &str) -> Option<String> {
    if let Some(quoted) = value.strip_prefix('\'') {
        let (text, rest) = quoted.split_once('\'')?;
        return is_blank(rest).then(|| text.to_owned());
    }
    if let Some(quoted) = value.strip_prefix('"') {
        return unescape(quoted);
    }
    // Without quotes a comment needs a space before it, so that `a#b` stays whole.
    let comment = value.find(" #").or_else(|| value.find("\t#"));
    let value = comment.and_then(|end| value.get(..end)).unwrap_or(value);
    Some(if value.starts_with('#') { String::new() } else { value.trim_end().to_owned() })
}

fn unescape(quoted: &str) -> Option<String> {
    let mut text = String::with_capacity(quoted.len());
    let mut letters = quoted.chars();
    loop {
        match letters.next()? {
            '"' => return is_blank(letters.as_str()).then_some(text),
            '\\' => text.push(match letters.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                other => other,
            }),
            letter => text.push(letter),
        }
    }
}

fn is_blank(rest: &str) -> bool {
    rest.trim_start().is_empty() || rest.trim_start().starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<String> {
        parse(line).ok()?.into_iter().next().map(|(name, value)| format!("{name}|{value}"))
    }

    #[test]
    fn a_line_is_a_name_and_a_value() {
        let cases = [
            ("A=1", "A|1"),
            ("export A=1", "A|1"),
            ("  A = 1  ", "A|1"),
            ("A=", "A|"),
            ("A=a=b", "A|a=b"),
            ("A=a#b", "A|a#b"),
            ("A=a # b", "A|a"),
            ("A='a # $b'", "A|a # $b"),
            ("A=\"a # b\" # c", "A|a # b"),
            (r#"A="a\"b\\c\nd""#, "A|a\"b\\c\nd"),
        ];
        for (line, expected) in cases {
            assert_eq!(read(line).as_deref(), Some(expected), "{line}");
        }
    }

    #[test]
    fn comments_and_empty_lines_say_nothing() {
        assert_eq!(parse("\u{feff}# a comment\n\n   \r\n"), Ok(Vec::new()));
    }

    #[test]
    fn a_line_that_is_none_is_named_and_not_repeated() {
        for wrong in ["secret", "=secret", "a b=secret", "A='secret", "A=\"secret", "A='x' secret"]
        {
            let text = format!("OK=1\n{wrong}");
            assert_eq!(parse(&text), Err("line 2 is not KEY=VALUE".to_owned()), "{wrong}");
        }
    }
}
