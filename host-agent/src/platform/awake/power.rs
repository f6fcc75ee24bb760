//! Whether a Linux machine is plugged in, from the folder in which the kernel lists what it gets power from.
//!
//! It is on battery when a battery of its own is discharging and nothing else says that it is online; else it is plugged in:
//! a machine without a battery, one whose battery is full or is charged, and one of which nothing is known. systemd decides
//! the same way (`systemd-ac-power`).

use std::fs;
use std::path::Path;

/// Looks in `folder`, which is `/sys/class/power_supply`.
pub(super) fn is_plugged_in(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return true };
    let mut discharges = false;
    for supply in entries.flatten().map(|entry| entry.path()) {
        let says = |name: &str| fs::read_to_string(supply.join(name)).unwrap_or_default().trim().to_owned();
        if says("type") == "Battery" {
            // That of a mouse is none of the machine's.
            discharges |= says("scope") != "Device" && says("status") == "Discharging";
        } else if says("online").parse().is_ok_and(|online: u32| online > 0) {
            return true;
        }
    }
    !discharges
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a machine is plugged in whose supplies have these files.
    fn is_plugged_in_with(supplies: &[&[(&str, &str)]]) -> bool {
        let folder = tempfile::tempdir().unwrap();
        for (n, files) in supplies.iter().enumerate() {
            let supply = folder.path().join(format!("supply{n}"));
            fs::create_dir(&supply).unwrap();
            for (name, content) in *files {
                fs::write(supply.join(name), format!("{content}\n")).unwrap();
            }
        }
        is_plugged_in(folder.path())
    }

    const MAINS: &[(&str, &str)] = &[("type", "Mains"), ("online", "1")];
    const NO_MAINS: &[(&str, &str)] = &[("type", "Mains"), ("online", "0")];
    const DISCHARGING: &[(&str, &str)] = &[("type", "Battery"), ("scope", "System"), ("status", "Discharging")];

    #[test]
    fn a_laptop_is_plugged_in_when_something_else_than_its_battery_feeds_it() {
        assert!(is_plugged_in_with(&[MAINS, &[("type", "Battery"), ("status", "Charging")]]));
        // A weak charger: the battery gives the rest.
        assert!(is_plugged_in_with(&[DISCHARGING, MAINS]));
        assert!(is_plugged_in_with(&[DISCHARGING, NO_MAINS, &[("type", "USB"), ("online", "2")]]));
        assert!(!is_plugged_in_with(&[NO_MAINS, DISCHARGING]));
        assert!(!is_plugged_in_with(&[DISCHARGING]), "a machine that does not list its mains");
        assert!(!is_plugged_in_with(&[&[("type", "Mains")], DISCHARGING, &[("type", "Battery"), ("status", "Full")]]));
    }

    #[test]
    fn a_machine_without_a_battery_is_plugged_in() {
        assert!(is_plugged_in_with(&[]));
        assert!(is_plugged_in(Path::new("/nowhere/at/all")));
        assert!(is_plugged_in_with(&[NO_MAINS]));
        assert!(
            is_plugged_in_with(&[&[("type", "Battery"), ("scope", "Device"), ("status", "Discharging")]]),
            "a mouse"
        );
        assert!(is_plugged_in_with(&[&[("type", "Battery"), ("status", "Not charging")]]), "full, on mains");
    }
}
