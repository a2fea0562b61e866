/**
 * Makes fast what every script is built on: the objects that come with JavaScript and with workerd. Bodies share
 * them with the runtime, and one that changed them would leave a server that answers nobody any more. So the change
 * is what fails, with the body's own line.
 *
 * New globals stay possible, and so do own properties of any name on the objects that bodies make.
 */
export function lockIntrinsics(): void {
  const inherited = inheritedObjects();
  for (const object of intrinsics()) {
    for (const key of Reflect.ownKeys(object)) {
      if (typeof key === "symbol" && key.description === INSPECTED) leaveOutPrototype(object, key);
      if (!LEFT_OPEN.get(object)?.has(key)) lockProperty(object, key, inherited.has(object));
    }
    // Bodies may keep things between calls in globals of their own, and `node:console` adds to the console.
    if (object !== globalThis && object !== console) Object.preventExtensions(object);
  }
}

/**
 * What others have to write over, and nothing depends on: `node:console` when it is first imported, where both only say
 * in Node's words that they do not work, and libraries that make many errors, which put the limit back.
 */
const LEFT_OPEN: ReadonlyMap<object, ReadonlySet<PropertyKey>> = new Map<object, ReadonlySet<PropertyKey>>([
  [console, new Set(["context", "createTask"])],
  [Error, new Set(["stackTraceLimit"])],
]);

/** What classes and plain objects of bodies inherit from, and now and then assign over: `error.name = "Sad"`. */
function inheritedObjects(): ReadonlySet<object> {
  const errors = [Error, TypeError, RangeError, SyntaxError, ReferenceError, EvalError, URIError, AggregateError];
  // Node's streams assign over `EventEmitter` when they are first imported, and each emitter does when it is made.
  const emitter = (globalThis as { process?: { constructor: Function } }).process?.constructor;
  return new Set<object>([
    Object.prototype,
    ...errors.map(({ prototype }) => prototype),
    ...(emitter === undefined ? [] : [emitter, emitter.prototype]),
  ]);
}

function lockProperty(object: object, key: PropertyKey, inherited: boolean): void {
  const property = Reflect.getOwnPropertyDescriptor(object, key);
  if (property === undefined || !property.configurable) return;
  if (!("value" in property)) Reflect.defineProperty(object, key, { configurable: false });
  else if (inherited) Reflect.defineProperty(object, key, assignable(object, key, property.value));
  else Reflect.defineProperty(object, key, { configurable: false, writable: false });
}

/** A property that may not be written may not be assigned over by what inherits it either: an accessor can. */
function assignable(object: object, key: PropertyKey, value: unknown): PropertyDescriptor {
  return {
    get: () => value,
    set(this: object, assigned: unknown) {
      if (this === object && Object.is(assigned, value)) return;
      if (this === object) throw new TypeError(`Cannot assign to read only property '${String(key)}'`);
      Reflect.defineProperty(this, key, { value: assigned, writable: true, enumerable: true, configurable: true });
    },
    enumerable: false,
    configurable: false,
  };
}

/** What of a prototype of workerd's own is not logged, by name: `false` stands for that. */
const INSPECTED = "kResourceTypeInspect";

/**
 * workerd's `inspect` looks for properties up to the first prototype whose `constructor` is a plain value. That of
 * `Object.prototype` is an accessor now, so it would get there, take `__proto__` for a property, and throw.
 */
function leaveOutPrototype(object: object, key: symbol): void {
  const inspected: unknown = Reflect.getOwnPropertyDescriptor(object, key)?.value;
  if (typeof inspected === "object" && inspected !== null) Reflect.defineProperty(inspected, "__proto__", { value: false });
}

/** Everything that can be reached from the globals, and the prototypes that no global leads to. */
function intrinsics(): Set<object> {
  // The environment of Node's emulation is data, and takes no property that stays as it is.
  const data = (globalThis as { process?: { env?: object } }).process?.env;
  const found = new Set<object>();
  const open: unknown[] = [
    globalThis,
    (async () => {}).constructor,
    function* () {}.constructor,
    async function* () {}.constructor,
    [][Symbol.iterator](),
    ""[Symbol.iterator](),
    "".matchAll(/x/g),
    new Map().entries(),
    new Set().entries(),
    Object.getPrototypeOf(async function* () {}.prototype),
  ];
  while (open.length > 0) {
    const value = open.pop();
    if (value === null || (typeof value !== "object" && typeof value !== "function")) continue;
    if (value === data || found.has(value)) continue;
    found.add(value);
    open.push(Reflect.getPrototypeOf(value));
    for (const key of Reflect.ownKeys(value)) {
      const property = Reflect.getOwnPropertyDescriptor(value, key);
      open.push(property?.value, property?.get, property?.set);
    }
  }
  return found;
}
