/** Why a peer ends something: numbers in session frames. docs/protocol.md, section 4. */

/** Why a session is not resumed. */
export const GapReason = { unknown: 1, ended: 2 } as const;
/** Why a peer ends the session or the link. */
export const ByeReason = { normal: 1, revoked: 2, shuttingDown: 3, protocolError: 4, limit: 5, paused: 6 } as const;
/** Why a channel ends. */
export const ChannelCloseReason = { done: 1, gap: 2, refused: 3, backendGone: 4, limit: 5 } as const;
