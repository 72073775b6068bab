//! `federationd config`: the settings with their defaults, as a config file to begin with.

use std::fmt::Write as _;

use crate::config::SETTINGS;

/// A config file that sets nothing: every setting with its default, commented out.
pub fn template() -> String {
    let mut text = String::from(
        "# Settings of `federationd serve`. Flags go before this file, FEDERATION_NODE_ID too.\n",
    );
    for setting in SETTINGS {
        let is_number = setting.default.parse::<u64>().is_ok();
        let quote = if is_number { "" } else { "\"" };
        let _ =
            write!(text, "\n# {}.\n# {} = {quote}{}{quote}\n", setting.about, setting.key, setting.default);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RawConfig;

    #[test]
    fn the_template_is_a_config_file_also_without_its_comment_signs() {
        assert!(toml::from_str::<RawConfig>(&template()).is_ok());
        let settings: String = template()
            .lines()
            .filter_map(|line| line.strip_prefix("# "))
            .filter(|line| line.contains(" = ") && !line.contains('<'))
            .flat_map(|line| [line, "\n"])
            .collect();
        let raw = toml::from_str::<RawConfig>(&settings).unwrap();
        assert_eq!(raw.quorum_timeout_ms, Some(2_000));
        let without_default = SETTINGS.iter().filter(|setting| setting.default.contains('<')).count();
        assert_eq!(settings.lines().count() + without_default, SETTINGS.len());
    }

    #[test]
    fn the_documentation_names_every_setting_with_its_default() {
        let docs = include_str!("../../../../docs/CONFIG.md");
        for setting in SETTINGS {
            let flag = format!("`--{}`", setting.key.replace('_', "-"));
            let row = docs.lines().find(|line| line.contains(&flag));
            assert!(row.is_some_and(|row| row.contains(setting.default)), "{flag} with {}", setting.default);
        }
    }
}
