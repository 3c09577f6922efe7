/** The little of bun:ffi that libc.ts uses; Bun's own types would come with a second set of Node's. */
declare module 'bun:ffi' {
  export type Pointer = number & { readonly __pointer: unique symbol }
  export function dlopen(
    path: string,
    symbols: Readonly<Record<string, { readonly args: readonly string[]; readonly returns: string }>>,
  ): { readonly symbols: Readonly<Record<string, (...args: readonly unknown[]) => number>> }
  export const read: { i32(pointer: Pointer, offset?: number): number }
}
