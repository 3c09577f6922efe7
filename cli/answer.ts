/** What was asked, or why there is no answer: for commands that go on with one of two sources away. */
import { isTwillError, messageOf } from '../lib/errors.ts'

export type Answer<T> =
  | { readonly ok: true; readonly value: T }
  | {
      readonly ok: false
      readonly reason: string
      /** Nothing is wrong with what was asked: nobody said where to ask. */
      readonly untold: boolean
    }

export async function answerOf<T>(question: Promise<T>): Promise<Answer<T>> {
  try {
    return { ok: true, value: await question }
  } catch (error) {
    const untold = isTwillError(error, 'store.unavailable') && error.data.elsewhere === true
    return { ok: false, reason: messageOf(error), untold }
  }
}
