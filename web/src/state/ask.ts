/** What Codex asks, taken apart for a screen; and what is said to it, in Codex's own types. */
import type { RequestInfo } from "../api/types";
import type { FileChange } from "../diff";
import { type Json, isJson, json, list, text } from "../json";

/** A text that is shown, and what the host calls it. */
export interface Labelled {
  readonly label: string;
  readonly text: string;
}

/** A question with what there is to choose. */
export interface Question {
  readonly id: string;
  readonly header: string;
  readonly question: string;
  readonly options: readonly { readonly label: string; readonly explanation: string }[];
  /** What is answered is not to be seen. */
  readonly secret: boolean;
  /** What the host says of it besides, as JSON. */
  readonly others: readonly string[];
}

/** All that is shown, each text of it in one place. */
export interface Parts {
  readonly claim: string | null;
  readonly command: string | null;
  readonly form: string | null;
  readonly files: readonly FileChange[];
  readonly questions: readonly Question[];
  /** What can't be shown, in the host's words. */
  readonly missing: readonly string[];
  /** Everything else, in its order. */
  readonly facts: readonly Labelled[];
}

/** What it is, for a screen. */
export type Kind = "command" | "files" | "permissions" | "question" | "form" | "link" | "consent" | "unknown";

/** What a person says to it. */
export type Said =
  | { readonly how: "accept" | "decline" | "cancel" }
  /** For how long. */
  | { readonly how: "acceptForLonger"; readonly lasts: "turn" | "session" }
  /** The answers to questions by their ids, or what was filled into a form. */
  | { readonly how: "answer"; readonly content: Json };

/** What Codex is answered. */
export type Body = { readonly result: Json } | { readonly error: Json };

type Writable<T> = { -readonly [K in keyof T]: T[K] };
type Draft = Writable<Omit<Question, "options" | "others">> & {
  readonly options: { label: string; explanation: string }[];
  readonly others: string[];
};

/** Takes a list of labels and texts apart. Nothing of it is left out. */
export function partsOf(shown: readonly string[]): Parts {
  const [facts, missing]: [Labelled[], string[]] = [[], []];
  const single: { claim: string | null; command: string | null; form: string | null } = {
    claim: null,
    command: null,
    form: null,
  };
  const files: Partial<Writable<FileChange>>[] = [];
  const questions: Draft[] = [];
  const take = (label: string, said: string): boolean => {
    const [file, question] = [files.at(-1), questions.at(-1)];
    switch (label) {
      case "claim":
      case "command":
      case "form":
        if (single[label] !== null) {
          return false;
        }
        single[label] = said;
        return true;
      case "missing":
        missing.push(said);
        return true;
      case "file":
        files.push({ path: said });
        return true;
      case "change":
      case "movedTo":
      case "diff":
        if (file === undefined || file[label] !== undefined) {
          return false;
        }
        file[label] = said;
        return true;
      case "questionId":
        questions.push({ id: said, header: "", question: "", options: [], secret: false, others: [] });
        return true;
      case "header":
      case "question":
        if (question?.[label] !== "") {
          return false;
        }
        question[label] = said;
        return true;
      case "option":
        question?.options.push({ label: said, explanation: "" });
        return question !== undefined;
      case "explanation": {
        const option = question?.options.at(-1);
        if (option?.explanation !== "") {
          return false;
        }
        option.explanation = said;
        return true;
      }
      case "other":
        question?.others.push(said);
        return question !== undefined;
      default:
        return false;
    }
  };
  for (let at = 0; at < shown.length; at += 2) {
    const [label = "", said = ""] = shown.slice(at, at + 2);
    if (!take(label, said)) {
      facts.push({ label, text: said });
    }
  }
  return {
    ...single,
    missing,
    facts,
    files: files.map(({ path = "", change = "", movedTo = null, diff = "" }) => ({ path, change, movedTo, diff })),
    questions: questions.map((question) => ({ ...question, secret: question.others.some(isSecret) })),
  };
}

function isSecret(other: string): boolean {
  return parsed(other).isSecret === true;
}

/** What this text says as JSON, where that is an object. */
export function parsed(said: string): Json {
  try {
    return json(JSON.parse(said));
  } catch {
    return {};
  }
}

/** What kind it is: from its method, and for what MCP servers ask from what it needs. */
export function kindOf({ method, needed }: Pick<RequestInfo, "method" | "needed">, parts: Parts): Kind {
  switch (method) {
    case "item/commandExecution/requestApproval":
    case "execCommandApproval":
      return "command";
    case "item/fileChange/requestApproval":
    case "applyPatchApproval":
      return "files";
    case "item/permissions/requestApproval":
      return "permissions";
    case "item/tool/requestUserInput":
      return "question";
    case "mcpServer/elicitation/request":
      if (parts.facts.some(({ label }) => label === "link")) {
        return "link";
      }
      return needed === "steer" && parts.form !== null ? "form" : "consent";
    default:
      return "unknown";
  }
}

/** Words of Codex's for consent to one call, in a question that is an approval. */
const CONSENT = ["Allow", "Approve Once"];
/** Codex takes every error for a no. */
const NO: Body = { error: { code: -32000, message: "declined by the person" } };

/** What Codex is answered in its own type; `null` where this app has no such answer. */
export function bodyOf(method: string, parts: Parts, said: Said): Body | null {
  switch (method) {
    case "item/commandExecution/requestApproval":
    case "item/fileChange/requestApproval":
      return decision(said, { longer: "acceptForSession", accept: "accept", decline: "decline", cancel: "cancel" });
    case "execCommandApproval":
    case "applyPatchApproval": {
      const decline = { denied: { rejection: "declined by the person" } };
      return decision(said, { longer: "approved_for_session", accept: "approved", decline, cancel: "abort" });
    }
    case "item/permissions/requestApproval":
      return grant(parts, said);
    case "item/tool/requestUserInput":
      return replied(parts, said);
    case "mcpServer/elicitation/request":
      return elicited(said);
    default:
      return said.how === "decline" ? NO : null;
  }
}

function decision(
  { how }: Said,
  words: { readonly longer: string; readonly accept: string; readonly decline: unknown; readonly cancel: string },
): Body | null {
  if (how === "answer") {
    return null;
  }
  return { result: { decision: how === "acceptForLonger" ? words.longer : words[how] } };
}

function grant(parts: Parts, said: Said): Body | null {
  if (said.how === "decline") {
    return { result: { permissions: {}, scope: "turn" } };
  }
  const asked = parts.facts.filter(({ label }) => label === "permissions").map((fact) => parsed(fact.text));
  const [permissions] = asked;
  // What is granted is what was shown, all of it.
  return said.how === "acceptForLonger" && permissions !== undefined && asked.length === 1
    ? { result: { permissions, scope: said.lasts } }
    : null;
}

function replied({ questions }: Parts, said: Said): Body | null {
  if (said.how === "answer") {
    return { result: { answers: said.content } };
  }
  if (said.how === "accept") {
    const yes = questions.map(({ id, options }) => {
      const option = options.find(({ label }) => CONSENT.includes(label));
      return option === undefined ? null : [id, { answers: [option.label] }];
    });
    const all = yes.filter((answer) => answer !== null);
    return all.length === questions.length ? { result: { answers: Object.fromEntries(all) } } : null;
  }
  return said.how === "decline" ? NO : null;
}

function elicited(said: Said): Body | null {
  switch (said.how) {
    case "accept":
    case "decline":
    case "cancel":
      return { result: { action: said.how } };
    case "answer":
      return { result: { action: "accept", content: said.content } };
    case "acceptForLonger":
      return null;
  }
}

/** Something to fill in. */
export interface Field {
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly required: boolean;
  readonly type: "text" | "secret" | "number" | "integer" | "boolean" | "one" | "many" | "unknown";
  readonly options: readonly { readonly value: string; readonly title: string }[];
}

/** The fields of a form, from its schema. */
export function fieldsOf(form: string): readonly Field[] {
  const schema = parsed(form);
  const required = list(schema.required);
  return Object.entries(json(schema.properties)).map(([name, value]) => {
    const of = json(value);
    const options = optionsOf(of).length > 0 ? optionsOf(of) : optionsOf(json(of.items));
    return {
      name,
      title: text(of.title) || name,
      description: text(of.description),
      required: required.includes(name),
      type: typeOf(of, options.length > 0),
      options,
    };
  });
}

function optionsOf(of: Json): Field["options"] {
  const named = [...list(of.oneOf), ...list(of.anyOf)].filter(isJson);
  if (named.length > 0) {
    return named.map((option) => ({ value: text(option.const), title: text(option.title) || text(option.const) }));
  }
  const titles = list(of.enumNames);
  return list(of.enum).map((value, index) => ({ value: text(value), title: text(titles[index]) || text(value) }));
}

function typeOf(of: Json, chooses: boolean): Field["type"] {
  if (of.type === "array") {
    return chooses ? "many" : "unknown";
  }
  if (chooses) {
    return "one";
  }
  switch (of.type) {
    case "string":
      return of.format === "password" || of.writeOnly === true ? "secret" : "text";
    case "number":
    case "integer":
    case "boolean":
      return of.type;
    default:
      return "unknown";
  }
}

/** What was filled in, by field, in the types of the form; or the first field that can't be so. */
export function contentOf(
  fields: readonly Field[],
  filled: ReadonlyMap<string, string | boolean | readonly string[]>,
): { readonly ok: true; readonly content: Json } | { readonly ok: false; readonly field: Field } {
  const content: [string, unknown][] = [];
  for (const field of fields) {
    const value = filled.get(field.name);
    const isEmpty = value === undefined || value === "" || (Array.isArray(value) && value.length === 0);
    if (isEmpty && field.type === "boolean") {
      content.push([field.name, false]);
    } else if (isEmpty) {
      if (field.required) {
        return { ok: false, field };
      }
    } else if (field.type === "number" || field.type === "integer") {
      const number = Number(value);
      if (!(field.type === "integer" ? Number.isSafeInteger(number) : Number.isFinite(number))) {
        return { ok: false, field };
      }
      content.push([field.name, number]);
    } else {
      content.push([field.name, value]);
    }
  }
  return { ok: true, content: Object.fromEntries(content) };
}
