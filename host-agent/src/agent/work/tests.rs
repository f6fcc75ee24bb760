use super::*;
use crate::state::work::Began;

const PHONE: DeviceId = DeviceId([1; 16]);
const LAPTOP: DeviceId = DeviceId([2; 16]);

fn place() -> Place {
    Place { environment: "local".into(), thread: "t".into() }
}

fn said(id: Option<&str>) -> Value {
    json!({ "type": "userMessage", "clientId": id, "startedAtMs": 1000 })
}

fn answered() -> Value {
    json!({ "type": "agentMessage", "text": "x" })
}

/// What a device did, in this order.
type Deeds<'a> = [(DeviceId, Began)];

/// Whose a turn with these items is, of the phone's point of view.
fn whose(began: &Deeds<'_>, goal: Option<bool>, items: &[Value]) -> Whose {
    whose_while(began, &[], &[PHONE], goal, items)
}

/// The same where Codex took these prompts into it, and `ending` may begin nothing any more.
fn whose_while(
    began: &Deeds<'_>,
    took: &[(DeviceId, Option<&str>)],
    ending: &[DeviceId],
    goal: Option<bool>,
    items: &[Value],
) -> Whose {
    let home = tempfile::tempdir().unwrap();
    let store = WorkStore::open(home.path(), 0).unwrap();
    for (at, (device, began)) in (1..).zip(began) {
        store.begins(*device, place(), began.clone(), at).unwrap();
    }
    for (device, prompt) in took {
        store.took(*device, &place(), *prompt, "this");
    }
    let party = |is_meant: &dyn Fn(DeviceId) -> bool| {
        let mut party = Party::new(&store, &place(), is_meant);
        party.goal = goal;
        party
    };
    let [own, ending, others] =
        [party(&|id| id == PHONE), party(&|id| ending.contains(&id)), party(&|id| !ending.contains(&id))];
    super::whose::whose(&json!({ "id": "this", "items": items }), &own, &ending, &others)
}

fn prompt(id: &str) -> Began {
    Began::Prompt { id: id.into() }
}

#[test]
fn who_may_begin_nothing_has_no_work() {
    let home = tempfile::tempdir().unwrap();
    let now = Timestamp::now();
    let devices = DeviceStore::open(home.path(), now).unwrap();
    let phone = crate::state::devices::Device::for_test("phone", Scope::Steer, now);
    let id = phone.device_id;
    let may = |devices: &DeviceStore| may_work(&devices.current(), id);
    assert!(!may(&devices), "it is not on the list");
    devices.add(phone, now).unwrap();
    assert!(may(&devices));
    devices.set_scope(id, Scope::View, now).unwrap();
    assert!(!may(&devices), "it was lowered to `view`");
    devices.set_scope(id, Scope::Steer, now).unwrap();
    for who in [Some(id), None] {
        devices.set_paused(who, true, now).unwrap();
        assert!(!may(&devices), "it is paused");
        devices.set_paused(who, false, now).unwrap();
        assert!(may(&devices));
    }
    devices.remove(id, now).unwrap();
    assert!(!may(&devices), "it was revoked");
}

#[test]
fn a_turn_is_a_devices_until_somebody_else_says_something_in_it() {
    let began = [(PHONE, prompt("p")), (PHONE, prompt("q")), (LAPTOP, prompt("l"))];
    let own = [said(Some("p")), answered(), said(Some("q"))];
    assert_eq!(whose(&began, None, &own), Whose::Theirs);
    assert_eq!(whose(&began, Some(false), &own), Whose::Theirs, "somebody's goal did not begin this");
    for other in [Some("l"), Some("the owner's"), None] {
        assert_eq!(whose(&began, None, &[said(Some("p")), said(other)]), Whose::Shared, "{other:?}");
        assert_eq!(whose(&began, None, &[said(other), said(Some("p"))]), Whose::Shared, "{other:?}");
        assert_eq!(whose(&began, None, &[said(other), answered()]), Whose::Others, "{other:?}");
    }
}

#[test]
fn a_turn_without_a_prompt_is_of_who_set_the_goal_or_began_something_without_an_id_last() {
    let goals = [answered()];
    let began = [(PHONE, prompt("p"))];
    assert_eq!(whose(&began, Some(true), &goals), Whose::Theirs);
    assert_eq!(whose(&began, Some(true), &[]), Whose::Theirs, "nothing of it is recorded yet");
    assert_eq!(whose(&began, Some(true), &[answered(), said(Some("p"))]), Whose::Theirs);
    assert_eq!(whose(&began, Some(true), &[answered(), said(Some("the owner's"))]), Whose::Others);
    assert_eq!(whose(&began, Some(false), &goals), Whose::Others);
    assert_eq!(whose(&began, Some(false), &[answered(), said(Some("p"))]), Whose::Shared);
    assert_eq!(whose(&began, None, &goals), Whose::Others);

    let review = [(LAPTOP, Began::Unnamed), (PHONE, Began::Unnamed)];
    assert_eq!(whose(&review, None, &goals), Whose::Theirs);
    assert_eq!(whose(&review, None, &[said(None), answered()]), Whose::Theirs);
    let review = [(PHONE, Began::Unnamed), (LAPTOP, Began::Unnamed)];
    assert_eq!(whose(&review, None, &goals), Whose::Others);
    assert_eq!(whose(&review, None, &[said(None), answered()]), Whose::Others);
}

#[test]
fn what_codex_took_and_does_not_show_yet_is_said_in_the_turn() {
    let began = [(PHONE, prompt("p")), (LAPTOP, prompt("l"))];
    let (own, from_laptop) = ([said(Some("p")), answered()], [said(Some("l")), answered()]);
    let shared = |took: &[(DeviceId, Option<&str>)]| whose_while(&began, took, &[PHONE], None, &own);
    assert_eq!(shared(&[]), Whose::Theirs, "codex refused it, or it is of another turn");
    assert_eq!(shared(&[(LAPTOP, Some("l"))]), Whose::Shared);
    assert_eq!(shared(&[(LAPTOP, None)]), Whose::Shared);
    assert_eq!(shared(&[(PHONE, Some("p"))]), Whose::Theirs, "it stands there");
    assert_eq!(shared(&[(LAPTOP, Some("never sent"))]), Whose::Theirs);
    assert_eq!(whose_while(&began, &[(PHONE, Some("p"))], &[PHONE], None, &from_laptop), Whose::Shared);
    assert_eq!(whose_while(&began, &[(LAPTOP, Some("l"))], &[PHONE], None, &from_laptop), Whose::Others);
}

#[test]
fn a_turn_of_several_ends_with_the_last_of_them() {
    let began = [(PHONE, prompt("p")), (LAPTOP, prompt("l"))];
    let both = [said(Some("p")), answered(), said(Some("l"))];
    let all = [PHONE, LAPTOP];
    assert_eq!(whose_while(&began, &[], &all, None, &both), Whose::Theirs);
    assert_eq!(whose_while(&began, &[(LAPTOP, Some("l"))], &all, None, &both[..2]), Whose::Theirs);
    assert_eq!(whose_while(&began, &[], &all, None, &[said(Some("l"))]), Whose::Others, "it is the laptop's");
    let with_owner = [said(Some("p")), said(Some("l")), said(Some("the owner's"))];
    assert_eq!(whose_while(&began, &[], &all, None, &with_owner), Whose::Shared);
    let review = [(PHONE, prompt("p")), (LAPTOP, Began::Unnamed)];
    assert_eq!(whose_while(&review, &[], &all, None, &[said(None), answered()]), Whose::Others);
    assert_eq!(whose_while(&review, &[], &all, None, &[said(None), said(Some("p"))]), Whose::Theirs);
}
