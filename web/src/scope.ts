/** What a device may do at a host: each scope includes those before it, and its number on the wire is its place. */
export const SCOPES = ["view", "steer", "approve", "admin"] as const;

export type Scope = (typeof SCOPES)[number];

/** The number on the wire. */
export function scopeTag(scope: Scope): number {
  return SCOPES.indexOf(scope) + 1;
}

/** The one of the two that includes less. */
export function lesserScope(one: Scope, other: Scope): Scope {
  return scopeTag(one) < scopeTag(other) ? one : other;
}

/** The scope behind a number; `null` for one that this version does not know. */
export function scopeFromTag(tag: number): Scope | null {
  return SCOPES[tag - 1] ?? null;
}
